package message

import (
	"strings"
	"testing"
)

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for want, texts := range map[wish][]string{
		wishStop: {
			"STOP", "stop", " Stop. ", "“Stop”", "'STOP'", "\"stop!\"", "STOP!!!", "s t o p", "Stop 🛑", "stop all", "STOP ALL", "Stop-all", "stopall",
			"opt out", "OPT-OUT", "optout", "please stop", "Please, STOP.", "stop please", "STOP NOW", "stop texting me", "stop sending me messages",
			"REMOVE", "remove", "Remove me.", "unsubscribe", "Unsubscribe me please", "cancel", "END", "quit", "revoke", "ｓｔｏｐ", "st\u200bop",
			"Stopp", "Bitte stoppen", "abmelden", "Abmelden bitte!", "Aufhören!", "ARRET", "Arrêt", "arrêter svp", "désabonner", "BAJA", "baja por favor",
			"parar", "PARE", "sair", "descadastrar", "basta", "Disiscrivimi", "afmelden", "uitschrijven aub", "sluta", "avsluta", "WYPISZ", "przestań", "rezygnuję",
			"You have the wrong person. Remove my number", "UNSUB", "Schluß", "aufhoeren", "stoppa", "停止", "ストップ", "解除", "停止してください", "Who is this? STOP", "Wrong number. STOP", "STOP https://invoice.stripe.com/i/x?s=ap",
			"S. T. O. P.", "STOP\n“Example: your payment of $49.00 didn't go through. Pay here?”",
		},
		wishStopSaid: {
			"I already paid, stop writing to me", "Stop it or I call my lawyer", "I want to opt out of this",
			"take me off your list", "no more texts, thank you", "Hören Sie auf, ich will mich abmelden", "Ich möchte keine SMS mehr von euch",
			"Arrêtez de m'écrire", "ne m'envoyez plus rien", "Quiero darme de baja", "non scrivetemi più", "Parem de me mandar mensagens",
			"Ik wil geen berichten meer", "Jag vill inte ha inga fler sms", "Proszę nie pisać do mnie", "配信停止でお願いします。今後は送らないでください", "もうやめてください",
			"Can you please stop texting me?", "Stop texting me, ok?", "How do I get you to stop sending these?", "hör auf", "Hören Sie auf", "no quiero más mensajes", "dejen de enviarme mensajes",
			"ne m'écrivez plus", "je souhaite ne plus recevoir de SMS", "non mi scrivete più", "quero sair da lista", "nie pisz do mnie", "nie wysyłajcie już", "niet meer sturen graag", "もう送らないで", "配信不要です",
		},
		wishStart: {"START", "start", "Start.", "unstop", "“START”"},
		wishNothing: {
			"", " ", "?", "👍", "Who is this?", "can I stop by tomorrow?", "What happens if I stop paying?", "Can I cancel?", "stop?? why did you charge me?",
			"I pay at the end of the month", "My bank had to cancel the card, I have a new one", "ok", "thanks", "YES", "done, paid it", "I'll quit my job",
			"please", "start me up again please", "the nonstop flight", "Please don't stop my subscription, I pay Friday", "my bank put a stop on the card, I'll pay friday", "カードが停止されたので別のカードで払います",
			"停止を解除しました。払います", "Proszę wypisz fakturę na firmę", "me tire uma dúvida", "vou parar de usar o cartão antigo e pago com o novo", "Alto", "how can I opt out of autopay?",
			"Liked “Example Software: last notice. $49.00 is still open and your subscription may end. Reply STOP to opt out.”", "Restart", "endlich bezahlt", "Zahle Ende des Monats", "pago a fin de mes", "もう払いました",
		},
	} {
		for _, text := range texts {
			if got := readAnswer(text); got != want {
				t.Errorf("%q is %d, want %d", text, got, want)
			}
		}
	}
}

// A STOP of its own ends messages, after anything else that somebody has written.
func FuzzReadAnswer(f *testing.F) {
	for _, text := range []string{"Stop\x00“\ufeff", "Who is this?", "un", "https://", "\"a b c d e f", "don't", "Liked “x”"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		if strings.ContainsAny(text, "“”\"«»„「」") || len(text) > 5000 {
			return // it may be within a quote
		}
		if got := readAnswer(text + "\nSTOP"); got != wishStop {
			t.Errorf("%q, then STOP, is %d", text, got)
		}
	})
}
