package debt

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Every rule has words, no two the same, and one that a newer version has written is shown as it
// is.
func TestRulesHaveWords(t *testing.T) {
	t.Parallel()
	seen := map[string]Rule{}
	for rule, text := range words {
		if other, twice := seen[text]; twice || text == "" || rule.Words() != text {
			t.Errorf("%s says %q, as %s does", rule, text, other)
		}
		seen[text] = rule
	}
	if got := Rule("of_tomorrow").Words(); got != "of_tomorrow" {
		t.Errorf("a rule that nobody knows says %q", got)
	}
}

// sentences are what stood in the place of the codes, as the migration has to know them.
var sentences = map[Rule]string{
	PaymentFailed:       "A payment for this subscription failed, the invoice is still open, and the subscription goes on.",
	OlderUnpaid:         "The latest invoice is paid, so the subscription looks healthy, but an older one never was.",
	SentOverdue:         "The invoice was sent to the customer and is more than 7 days past its due date. No card is charged for it.",
	UnpaidBeforeTrial:   "The customer is on a trial while an earlier invoice is unpaid.",
	AccessProven:        "The subscription has ended or is suspended, but your app says that the customer still has access.",
	MarkedUncollectible: "The payment failed and the invoice was marked uncollectible, but the subscription goes on.",
	DisputeLost:         "The invoice was paid, and a dispute has taken the money back.",
}

// The migration that put codes in the place of sentences knows each sentence and its code.
func TestMigrationKnowsTheSentences(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../sql/migrations/0021_codes.sql")
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Join(strings.Fields(string(text)), " ")
	for rule, sentence := range sentences {
		quoted := "'" + strings.ReplaceAll(sentence, "'", "''") + "'"
		if !strings.Contains(lines, fmt.Sprintf("WHEN %s THEN '%s'", quoted, rule)) || strings.Count(lines, quoted) != 2 {
			t.Errorf("it does not turn %s into %s", quoted, rule)
		}
	}
}
