package oracle

import "crypto/sha256"

// hashOf stands in for a merchant's keyed hash.
func hashOf(subject, value string) []byte {
	sum := sha256.Sum256([]byte(subject + " " + value))
	return sum[:]
}
