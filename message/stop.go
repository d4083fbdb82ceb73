package message

import (
	"regexp"
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
		remove halt unsub
		stopp abmelden abbestellen austragen aufhoren aufhoeren beenden schluss
		arret arreter arretez desabonner desinscrire
		baja parar pare cancelar basta
		fermare disiscrivimi disiscrivi cancellami annulla
		sair descadastrar descadastre
		stoppen afmelden uitschrijven
		sluta avsluta avregistrera stoppa
		wypisz koniec przestan przestancie rezygnuje anuluj
		停止 ストップ 解除 退会 中止 配信停止 送信停止 配信不要 停止希望`)
	startWords = wordSet(`start unstop`)

	// What says stop within a sentence too. "At the end of the month" and "my bank has to cancel
	// the old card" say nothing of the kind, so most words are not among these.
	plainStops = wordSet(`stop stopp stopall unsubscribe unsub optout abmelden abbestellen austragen
		desabonner desabonnez desinscrire desinscrivez disiscrivimi disiscrivetemi cancellami
		descadastrar descadastre afmelden uitschrijven avregistrera przestancie`)
	// as plainStops, of several words; in a question too, for nobody asks them to know
	plainPhrases = []string{
		"opt me out", "opt out of these", "opt out of this", "opt out of messages", "opt out of texts", "remove me", "remove my number", "delete my number", "take me off",
		"no more messages", "no more texts", "stop texting", "stop messaging", "stop sending", "stop writing", "stop contacting", "stop these", "stop the texts",
		"stop the messages", "quit texting", "leave me alone", "stop spamming",
		"keine sms mehr", "keine nachrichten mehr", "hort auf", "hor auf", "hoer auf", "hoert auf", "horen sie auf", "hoeren sie auf", "lasst mich in ruhe", "lassen sie mich in ruhe",
		"ne m envoyez plus", "ne m ecrivez plus", "arretez de m", "ne plus recevoir", "plus de messages", "plus de sms", "arretez d envoyer",
		"darme de baja", "dame de baja", "dar de baja", "no me envien mas", "no me escriban", "no mas mensajes", "no quiero mas mensajes", "dejen de enviar",
		"dejen de enviarme", "dejen de mandar", "dejen de mandarme", "dejen de escribirme",
		"non scrivetemi piu", "non mi scrivete piu", "niente piu messaggi", "non voglio piu messaggi", "basta messaggi",
		"parem de me mandar", "parem de mandar", "parem de enviar", "pare de mandar", "pare de me mandar", "pare de enviar", "nao quero mais mensagens", "quero sair",
		"me tire da lista", "me tira da lista",
		"geen berichten meer", "geen sms meer", "niet meer sturen", "stuur niets meer", "stop met sturen",
		"inga fler sms", "inga fler meddelanden", "inga fler mejl", "sluta skicka", "sluta smsa", "stoppa sms",
		"nie piszcie", "nie pisz do mnie", "prosze nie pisac", "nie wysylajcie", "wypisz mnie", "wypiszcie mnie",
	}
	// Japanese has no spaces between words. A card may be 停止 too, so that alone says nothing.
	plainSigns = []string{"配信停止", "送信停止", "配信不要", "配信解除", "送らないで", "送信しないで", "送信をやめ", "送るのをやめ", "やめてください", "止めてください"}
	// What has a stop in it and means another one.
	otherStops = []string{"a stop on", "stop payment", "stop by", "stop using", "stop paying", "stopped", "dont stop", "don t stop", "do not stop", "not stop", "never stop", "won t stop", "wont stop"}

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

	link = regexp.MustCompile(`(?i)\bhttps?://\S+`)
	// what is quoted of a message of ours, or of anybody's: five words and more
	quoted = regexp.MustCompile(`[“”"«»„「][^“”"«»„「」]*(?:\s[^\s“”"«»„「」]+){4,}[“”"«»」]`)
	// sentences end here
	sentenceEnd = regexp.MustCompile(`[.!?…。！？\n]+`)
)

func wordSet(text string) map[string]bool {
	set := map[string]bool{}
	for _, word := range strings.Fields(text) {
		set[word] = true
	}
	return set
}

// readAnswer reads what a customer has written. Anyone who means to stop is understood in any
// spelling; a question with a stop word in it asks for no end, unless it asks for just that. What
// is quoted, and a link, is not their word.
func readAnswer(text string) wish {
	if len(text) > 10_000 { // Twilio's limit is 1,600 characters
		text = text[:10_000]
	}
	switch words := plainWords(text); {
	case len(words) == 0:
		return wishNothing
	case len(words) == 1 && startWords[words[0]]:
		return wishStart
	}
	rest := quoted.ReplaceAllString(link.ReplaceAllString(text, " "), " ")
	found := wishNothing
	for from := 0; from < len(rest); {
		to, question := len(rest), false
		if end := sentenceEnd.FindStringIndex(rest[from:]); end != nil {
			question = strings.ContainsAny(rest[from+end[0]:from+end[1]], "?？")
			to = from + end[1]
		}
		switch readSentence(plainWords(rest[from:to]), question) {
		case wishStop:
			return wishStop
		case wishStopSaid:
			found = wishStopSaid
		case wishNothing, wishStart:
		}
		from = to
	}
	if found == wishNothing && !strings.ContainsAny(rest, "?？") && stopWords[strings.Join(plainWords(rest), "")] {
		return wishStop // S. T. O. P.
	}
	return found
}

// readSentence reads one sentence of an answer.
func readSentence(words []string, question bool) wish {
	spaced := " " + strings.Join(words, " ") + " "
	for _, other := range otherStops {
		spaced = strings.ReplaceAll(spaced, " "+other+" ", " ")
	}
	words = strings.Fields(spaced)
	joined := strings.Join(words, "")
	says := func(phrase string) bool { return strings.Contains(spaced, " "+phrase+" ") }
	if !question {
		rest := slices.DeleteFunc(slices.Clone(words), func(w string) bool { return fillers[w] })
		bare := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(strings.Join(rest, ""), "お願いします"), "ください"), "して")
		if stopWords[joined] || stopWords[bare] || len(rest) > 0 && !slices.ContainsFunc(rest, func(w string) bool { return !stopWords[w] }) {
			return wishStop
		}
		if slices.ContainsFunc(words, func(w string) bool { return plainStops[w] }) || says("opt out") {
			return wishStopSaid
		}
	}
	if slices.ContainsFunc(plainPhrases, says) || slices.ContainsFunc(plainSigns, func(sign string) bool { return strings.Contains(joined, sign) }) {
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
		case unicode.IsLetter(r) || unicode.IsNumber(r) || unicode.Is(unicode.Mn, r) || r == 'ー':
			return r
		}
		return ' '
	}, strings.ReplaceAll(strings.ToLower(norm.NFKD.String(text)), "ß", "ss"))
	return strings.Fields(norm.NFC.String(plain))
}
