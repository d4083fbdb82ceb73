package shield_test

import "testing"

// A rotation is the cure of a signing key that does not open, and of a next one that does not
// either: neither may stand in its way.
func TestRotateKeysThatDoNotOpen(t *testing.T) {
	t.Parallel()
	for _, damaged := range []string{"current", "next", "current', 'next"} {
		b := setup(t)
		before, err := b.s.SigningKeys(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.Exec("UPDATE shield_keys SET secret.tag = md5(id) WHERE state IN ('" + damaged + "')")
		if _, err := b.s.SigningKeys(t.Context()); err == nil && damaged != "next" {
			t.Errorf("a damaged %s key signs", damaged)
		}
		after, err := b.s.RotateKeys(t.Context())
		if err != nil || after[0].Private == nil || after[0].ID == before[0].ID {
			t.Errorf("%s: %v, %v", damaged, after, err)
		}
		if signing, err := b.s.SigningKeys(t.Context()); err != nil || signing[0].ID != after[0].ID {
			t.Errorf("%s: %v, %v", damaged, signing, err)
		}
	}
}
