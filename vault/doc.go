// Package vault seals the secrets PHANTOM keeps: merchants' tokens, customers' addresses, the
// bodies of messages.
//
// # Cipher
//
// AES-256-GCM with 16 random IV bytes per value (NIST SP 800-38D, section 8.2.2) and a 16-byte tag.
// A value is sealed for one place, its context ("merchants.access_token:acct_123"), which is the
// additional authenticated data: moved to another row or another column it no longer opens. A
// context is never empty, but in the string form that [Keyring.Encrypt] writes.
//
// # Keys
//
// A [Keyring] seals under its current key and opens under that and the previous ones, chosen by the
// key id stored beside the value. There is no fallback: an unknown key id, a short tag, plain text
// or NULL is an error. To change the key: put the new one among the previous keys of every process,
// swap the two, then rewrap.
//
// # In the database
//
// [EncryptedToken] carries a plaintext through the program without showing it. Its codec seals on
// the way into a column of type sealed_token and opens on the way out, so queries take and return
// plaintext and tables never hold it. A column that is read many rows at a time is a [StoredToken]
// in Go: of these, one that does not open is an error of its own and not of the query.
package vault
