package recovery

import (
	"crypto/sha256"
	"encoding/binary"
	"math"
	"testing"
)

// Who is held out stays so when the percentage grows, and the share is what was asked for.
func TestHoldoutIsStable(t *testing.T) {
	t.Parallel()
	const customers = 20000
	for percent := range 21 {
		out := 0
		for i := range customers {
			held := heldOut(customerNumber(i), percent)
			if held {
				out++
			}
			if held && !heldOut(customerNumber(i), percent+1) {
				t.Fatalf("customer %d is held out at %d %% and not at %d %%", i, percent, percent+1)
			}
			if held != heldOut(customerNumber(i), percent) {
				t.Fatal("the same question has two answers")
			}
		}
		p := float64(percent) / 100
		if share := float64(out) / customers; math.Abs(share-p) > 4*math.Sqrt(p*(1-p)/customers)+1e-9 {
			t.Errorf("%d %% asked for, %.2f %% held out", percent, 100*share)
		}
	}
}

// customerNumber stands for the keyed hash of a customer.
func customerNumber(i int) []byte {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(i)))
	return sum[:]
}
