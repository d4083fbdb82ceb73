package verdict

import (
	"crypto/sha256"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
)

// keyring knows who may ask.
type keyring struct {
	mutex  sync.Mutex // of who writes
	byHash atomic.Pointer[map[[32]byte]*heldKey]
}

type heldKey struct {
	shield.TenantKey
	used atomic.Bool // since it was asked for last
}

// SetKeys replaces the keys of a merchant, or of all with the zero id.
func (t *Table) SetKeys(merchant uuid.UUID, keys []shield.TenantKey) {
	k := &t.keys
	k.mutex.Lock()
	defer k.mutex.Unlock()
	next := map[[32]byte]*heldKey{}
	if old := k.byHash.Load(); old != nil && merchant != uuid.Nil {
		for hash, key := range *old {
			if key.Merchant != merchant {
				next[hash] = key
			}
		}
	}
	for _, key := range keys {
		next[[32]byte(key.Hash)] = &heldKey{TenantKey: key}
	}
	k.byHash.Store(&next)
}

// UsedKeys are those that were used since it was asked last.
func (t *Table) UsedKeys() (used []shield.TenantKey) {
	if all := t.keys.byHash.Load(); all != nil {
		for _, key := range *all {
			if key.used.Swap(false) {
				used = append(used, key.TenantKey)
			}
		}
	}
	return used
}

// keyOf is the key that the one Authorization header of a request bears, or nil.
func (t *Table) keyOf(values []string) *heldKey {
	if len(values) != 1 || len(values[0]) > 256 {
		return nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return nil
	}
	token = strings.TrimLeft(token, " ")
	all := t.keys.byHash.Load()
	if all == nil || len(token) < 8 {
		return nil
	}
	key := (*all)[sha256.Sum256([]byte(token))]
	if key == nil || !key.Expires.IsZero() && !key.Expires.After(time.Now()) {
		return nil
	}
	if !key.used.Load() {
		key.used.Store(true)
	}
	return key
}
