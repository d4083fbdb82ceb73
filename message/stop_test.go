package message

import "testing"

func TestReadAnswer(t *testing.T) {
	t.Parallel()
	for want, texts := range map[wish][]string{
		wishStop: {
			"STOP", "stop", " Stop. ", "“Stop”", "'STOP'", "\"stop!\"", "STOP!!!", "s t o p", "Stop 🛑", "stop all", "STOP ALL", "Stop-all", "stopall",
			"opt out", "OPT-OUT", "optout", "please stop", "Please, STOP.", "stop please", "STOP NOW", "stop texting me", "stop sending me messages",
			"REMOVE", "remove", "Remove me.", "unsubscribe", "Unsubscribe me please", "cancel", "END", "quit", "revoke", "ｓｔｏｐ", "st\u200bop",
			"Stopp", "Bitte stoppen", "abmelden", "Abmelden bitte!", "Aufhören!", "ARRET", "Arrêt", "arrêter svp", "désabonner", "BAJA", "baja por favor",
			"parar", "PARE", "sair", "descadastrar", "basta", "Disiscrivimi", "afmelden", "uitschrijven aub", "sluta", "avsluta", "WYPISZ", "przestań", "rezygnuję",
		},
		wishStopSaid: {
			"I already paid, stop writing to me", "Stop it or I call my lawyer", "I want to opt out of this", "You have the wrong person. Remove my number",
			"take me off your list", "no more texts, thank you", "Hören Sie auf, ich will mich abmelden", "Ich möchte keine SMS mehr von euch",
			"Arrêtez de m'écrire", "ne m'envoyez plus rien", "Quiero darme de baja", "non scrivetemi più", "Parem de me mandar mensagens",
			"Ik wil geen berichten meer", "Jag vill inte ha inga fler sms", "Proszę nie pisać do mnie", "停止", "配信停止してください", "ストップ", "もうやめてください",
		},
		wishStart: {"START", "start", "Start.", "unstop", "“START”"},
		wishNothing: {
			"", " ", "?", "👍", "Who is this?", "can I stop by tomorrow?", "What happens if I stop paying?", "Can I cancel?", "stop?? why did you charge me?",
			"I pay at the end of the month", "My bank had to cancel the card, I have a new one", "ok", "thanks", "YES", "done, paid it", "I'll quit my job",
			"please", "start me up again please", "the nonstop flight", "Restart", "endlich bezahlt", "Zahle Ende des Monats", "pago a fin de mes", "もう払いました",
		},
	} {
		for _, text := range texts {
			// A word with a question mark is none of the sentences that ask something.
			if got := readAnswer(text); got != want {
				t.Errorf("%q is %d, want %d", text, got, want)
			}
		}
	}
}

func FuzzReadAnswer(f *testing.F) {
	f.Add("Stop\x00“\ufeff")
	f.Fuzz(func(t *testing.T, text string) {
		if readAnswer(text) == wishStart && len(plainWords(text)) == 0 {
			t.Error(text)
		}
	})
}
