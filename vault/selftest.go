package vault

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
)

// Project Wycheproof, aes_gcm_test.json, case 240: a 256-bit key with a 128-bit IV.
const (
	knownKey        = "00112233445566778899aabbccddeeff102132435465768798a9bacbdcedfe0f"
	knownIV         = "5c2ea9b695fcf6e264b96074d6bfa572"
	knownPlaintext  = "00000000000000000000000000000000000000000000000000000000000000000000000000000000"
	knownCiphertext = "28e1c5232f4ee8161dbe4c036309e0b3254e9212bef0a93431ce5e5604c8f6a73c18a3183018b770"
	knownTag        = "d5808a1bd11a01129bf3c6919aff2339"
)

// SelfTest proves at boot that this process seals and opens as it should: a known answer, and with
// every key of the ring a round trip, a flipped tag and a wrong context. The error names the step
// that failed.
func (k *Keyring) SelfTest() error {
	if err := knownAnswer(); err != nil {
		return fmt.Errorf("known answer: %w", err)
	}
	for _, s := range k.sealers {
		if err := s.selfTest(); err != nil {
			return fmt.Errorf("key id %s: %w", s.id, err)
		}
	}
	return nil
}

func knownAnswer() error {
	var raw [5][]byte
	for i, text := range []string{knownKey, knownIV, knownPlaintext, knownCiphertext, knownTag} {
		var err error
		if raw[i], err = hex.DecodeString(text); err != nil {
			return err
		}
	}
	aead, err := newKey(raw[0]).aead()
	if err != nil {
		return err
	}
	if got := aead.Seal(nil, raw[1], raw[2], nil); !bytes.Equal(got, append(raw[3], raw[4]...)) {
		return errors.New("AES-256-GCM gave another ciphertext than the published one")
	}
	return nil
}

func (s *sealer) selfTest() error {
	const plaintext = "phantom self-test"
	context := []byte("self-test")
	sealed := s.seal(nil, []byte(plaintext), context)
	iv, body := sealed[:ivSize], sealed[ivSize:]

	opened, err := s.aead.Open(nil, iv, body, context)
	if err != nil || string(opened) != plaintext {
		return errors.New("round trip: what was sealed did not open")
	}
	flipped := bytes.Clone(body)
	flipped[len(flipped)-1] ^= 1
	if _, err := s.aead.Open(nil, iv, flipped, context); err == nil {
		return errors.New("flipped tag: a changed value opened")
	}
	if _, err := s.aead.Open(nil, iv, body, []byte("another context")); err == nil {
		return errors.New("wrong context: a value opened in another place")
	}
	return nil
}
