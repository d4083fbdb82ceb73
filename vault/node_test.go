package vault_test

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// randomText is empty, short or long, of ASCII, hex, line ends or any Unicode characters.
func randomText(random *rand.Rand) string {
	var text strings.Builder
	length, kind := random.IntN(60), random.IntN(4)
	if random.IntN(100) == 0 {
		length *= 200
	}
	for range length {
		switch kind {
		case 0:
			text.WriteByte(byte(' ' + random.IntN('~'-' ')))
		case 1:
			text.WriteByte("0123456789abcdefABCDEF:"[random.IntN(23)])
		case 2:
			text.WriteString([]string{"\n", "\r\n", "\x00", "\t", "é", "e\u0301", "☃", "🎉", "\u2028", "\ufeff"}[random.IntN(10)])
		default:
			if r := rune(random.IntN(utf8.MaxRune + 1)); utf8.ValidRune(r) {
				text.WriteRune(r)
			}
		}
	}
	return text.String()
}

func TestNodeCrypto(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("CI needs node for this test")
		}
		t.Skip("node is not installed")
	}
	const count = 1_000
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	ring := newRing(t, keyA)

	request := struct {
		Key  string   `json:"key"`
		Open []string `json:"open"`
		Seal []string `json:"seal"`
	}{Key: keyA}
	ours := []string{"", "\n", strings.Repeat("long ☃\r\n", 20_000)}
	request.Seal = append(request.Seal, ours...)
	for len(ours) < count {
		ours = append(ours, randomText(random))
		request.Seal = append(request.Seal, randomText(random))
	}
	for _, text := range ours {
		sealed, err := ring.Encrypt(text)
		if err != nil {
			t.Fatal(err)
		}
		request.Open = append(request.Open, sealed)
	}
	input, err := json.Marshal(request)
	if err != nil {
		t.Fatal(err)
	}

	var complaint bytes.Buffer
	command := exec.CommandContext(t.Context(), node, "testdata/node_crypto.js")
	command.Stdin, command.Stderr = bytes.NewReader(input), &complaint
	output, err := command.Output()
	if err != nil {
		t.Fatalf("node: %v\n%s", err, &complaint)
	}
	var answer struct{ Opened, Sealed []string }
	if err := json.Unmarshal(output, &answer); err != nil {
		t.Fatal(err)
	}
	if len(answer.Opened) != count || len(answer.Sealed) != count {
		t.Fatalf("node opened %d and sealed %d of %d", len(answer.Opened), len(answer.Sealed), count)
	}
	for i, opened := range answer.Opened {
		if opened != ours[i] {
			t.Errorf("node opened %q to %q", ours[i], opened)
		}
	}
	for i, sealed := range answer.Sealed {
		if opened, err := ring.Decrypt(sealed); err != nil || opened != request.Seal[i] {
			t.Errorf("node sealed %q, which opened to %q, %v", request.Seal[i], opened, err)
		}
	}
}
