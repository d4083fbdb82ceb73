package ghost

import (
	"github.com/google/uuid"

	"phantom/vault"
)

// The address of a ghost is shown to its merchant alone. These are the only lines that open it.

func emailContext(ghost uuid.UUID) string { return "ghost_targets.email:" + ghost.String() }

// Email opens the address of a ghost for its merchant: "" where there is none, or where it is not that ghost's.
func Email(ghost uuid.UUID, email *vault.EncryptedToken) string {
	return reveal(email, emailContext(ghost))
}

// reveal opens an address of the given place, "" where there is none. One that belongs to another place is not shown.
func reveal(email *vault.EncryptedToken, place string) string {
	if email == nil {
		return ""
	}
	text, err := email.Reveal(place)
	if err != nil {
		return ""
	}
	return text
}
