package ghost

import (
	"github.com/google/uuid"

	"phantom/vault"
)

// The address of a ghost is shown to its merchant alone. Only these lines open it, and those of
// package message that write to it.

func emailContext(ghost uuid.UUID) string { return "ghost_targets.email:" + ghost.String() }

// Email opens the address of a ghost for its merchant: "" where there is none, or where it
// does not open as that ghost's.
func Email(ghost uuid.UUID, email *vault.StoredToken) string {
	text, _ := reveal(email, emailContext(ghost))
	return text
}

// reveal opens an address of the given place, "" where there is none. One that does not open or
// belongs to another place is not shown, and opens is false.
func reveal(email *vault.StoredToken, place string) (text string, opens bool) {
	if email == nil {
		return "", true
	}
	text, err := email.Reveal(place)
	return text, err == nil
}
