package message

import (
	"slices"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// wish is what the answer to an SMS asks for.
type wish int

const (
	wishNothing  wish = iota
	wishStop          // a stop word, and nothing else that matters
	wishStopSaid      // a sentence with a stop word in it
	wishStart
)

// What ends messages to a number, and what lets them come again. The first line is how Twilio
// understands it where the account has no words of its own, the others are what people write in the
// languages of our messages. https://help.twilio.com/articles/223134027
var (
	stopWords = wordSet(`stop stopall unsubscribe cancel end quit revoke optout
		remove halt
		stopp abmelden abbestellen austragen aufhoren beenden schluss
		arret arreter arretez desabonner desinscrire
		baja parar pare cancelar basta alto
		fermare disiscrivimi disiscrivi cancellami annulla
		sair descadastrar descadastre
		stoppen afmelden uitschrijven
		sluta avsluta avregistrera
		wypisz koniec przestan przestancie rezygnuje anuluj`)
	startWords = wordSet(`start unstop`)

	// What says stop within a sentence too. "At the end of the month" and "my bank has to cancel
	// the old card" say nothing of the kind, so most words are not among these.
	plainStops = wordSet(`stop stopp stopall unsubscribe optout abmelden abbestellen austragen
		desabonner desabonnez desinscrire desinscrivez disiscrivimi disiscrivetemi cancellami
		descadastrar descadastre afmelden uitschrijven avregistrera wypisz wypiszcie przestancie`)
	// as plainStops, of several words
	plainPhrases = []string{
		"opt out", "remove me", "remove my number", "delete my number", "take me off", "no more messages", "no more texts",
		"quit texting", "leave me alone",
		"keine sms mehr", "keine nachrichten mehr", "hort auf", "lasst mich in ruhe",
		"arretez", "ne m envoyez plus", "plus de messages", "plus de sms",
		"darme de baja", "dame de baja", "dar de baja", "no me envien mas", "no mas mensajes",
		"non scrivetemi piu", "niente piu messaggi", "basta messaggi",
		"parem de", "pare de", "parar de", "nao quero mais", "me tire", "geen berichten meer", "geen sms meer",
		"inga fler sms", "inga fler meddelanden", "sluta skicka", "nie piszcie", "prosze nie pisac",
	}
	// Japanese has no spaces between words.
	plainSigns = []string{"停止", "ストップ", "解除", "退会", "やめて", "止めて"}

	// What people add to be polite, or to say what is to stop.
	fillers = wordSet(`please pls plz now thanks thank you all it this these that sms text texts texting message messages
		messaging me my number from to the sending send list already ok okay hi hello
		bitte jetzt danke alle die das nachrichten mehr keine
		svp stp merci s il vous te plait les messages envoyer d de
		por favor gracias los mensajes ya
		per grazie i messaggi
		obrigado obrigada as mensagens
		alstublieft aub graag dank berichten de
		tack snalla meddelanden
		prosze dziekuje wiadomosci mnie`)
)

func wordSet(text string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(text) {
		set[word] = true
	}
	return set
}

// readAnswer reads what a customer has written. Anyone who means to stop is understood in any
// spelling; a question with a stop word in it asks for no end.
func readAnswer(text string) wish {
	words := plainWords(text)
	joined := strings.Join(words, "")
	switch {
	case len(words) == 0:
		return wishNothing
	case startWords[joined]:
		return wishStart
	case stopWords[joined]: // S T O P, stop-all, opt out
		return wishStop
	case strings.ContainsAny(text, "?？"):
		return wishNothing
	}
	rest := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return fillers[w] })
	if len(rest) > 0 && !slices.ContainsFunc(rest, func(w string) bool { return !stopWords[w] }) || stopWords[strings.Join(rest, "")] {
		return wishStop
	}
	if slices.ContainsFunc(words, func(w string) bool { return plainStops[w] }) {
		return wishStopSaid
	}
	spaced := " " + strings.Join(words, " ") + " "
	if slices.ContainsFunc(plainPhrases, func(phrase string) bool { return strings.Contains(spaced, " "+phrase+" ") }) ||
		slices.ContainsFunc(plainSigns, func(sign string) bool { return strings.Contains(joined, sign) }) {
		return wishStopSaid
	}
	return wishNothing
}

// plainWords are the words of a text in small letters, without accents, punctuation, quotes and
// emoji. Full-width letters are as good as others.
func plainWords(text string) []string {
	plain := strings.Map(func(r rune) rune {
		switch {
		case unicode.Is(unicode.Mn, r) && r < 0x3000: // an accent; those of kana make another sound
			return -1
		case unicode.Is(unicode.Cf, r): // joiners and marks that nobody sees
			return -1
		case r == 'ł':
			return 'l'
		case r == 'ß':
			return 's'
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Mn, r) || r == 'ー':
			return r
		}
		return ' '
	}, strings.ToLower(norm.NFKD.String(text)))
	return strings.Fields(norm.NFC.String(plain))
}
