// Package verdict answers who may keep access from memory: no request asks the database.
//
// # The table
//
// [Table] holds every subscription with its level, as package shield has decided it. A process
// that follows the database, or a server, writes into it; any number of requests read it meanwhile.
// Records lie in large blocks without pointers, so that the garbage collector has nothing to do
// with ten million of them.
//
// # The handler
//
// [Handler] speaks the protocols: our own, those of proxies, AuthZEN and OFREP. Nothing on its way
// makes a context, a log line or a map for a request.
package verdict

import (
	"hash/maphash"
	"iter"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"phantom/shield"
)

// Table is safe for any number of readers beside one writer.
type Table struct {
	seed maphash.Seed
	// by customer: where their record lies
	records [shards]shard
	// by subscription: whose it is
	owners [shards]ownerShard

	products names
	slots    uint32 // that were given

	known  atomic.Pointer[map[uuid.UUID]*tenant] // is replaced as a whole
	epoch  atomic.Pointer[string]
	loaded atomic.Bool
	began  time.Time
	synced atomic.Int64 // when the source was last heard of, in nanoseconds since began

	hub  hub
	keys keyring
}

// shards is how many parts the table has. One that grows stops those who read that part for as long
// as it takes to move a 64th of everything.
const shards = 64

// tenant is a merchant in the table.
type tenant struct {
	view atomic.Pointer[view]
	list signedList

	unknown atomic.Int64 // questions about customers of whom nothing is known
}

// view is what a request goes by. One is never changed.
type view struct {
	shield.Tenant
	slot     uint32 // of the tenant's records
	revision string // with the epoch
	features map[shield.Level][]byte
	flags    []string

	revisionHeader []string
}

// NewTable returns an empty table.
func NewTable() *Table {
	t := &Table{seed: maphash.MakeSeed(), began: time.Now()}
	t.known.Store(&map[uuid.UUID]*tenant{})
	none := ""
	t.epoch.Store(&none)
	return t
}

// hash places a text of a tenant's.
func (t *Table) hash(slot uint32, text string) uint64 {
	h := maphash.String(t.seed, text) ^ uint64(slot)*0x9e3779b97f4a7c15
	h ^= h >> 32
	h *= 0xd6e8feb86659fd93
	return h ^ h>>29
}

// place is where a customer's record is looked for: the shard, and what tells it from most others
// there.
type place struct {
	shard uint32
	print uint32
}

func (t *Table) place(slot uint32, customer string) place {
	h := t.hash(slot, customer)
	return place{uint32(h >> 58), uint32(h>>20) | 1} // a print is never 0
}

// Synced says that the source was heard of just now.
func (t *Table) Synced() { t.synced.Store(int64(time.Since(t.began))) }

// SyncedAgo says that the source of the source was heard of so long ago.
func (t *Table) SyncedAgo(d time.Duration) { t.synced.Store(int64(time.Since(t.began) - d)) }

// Age is for how long the source has not been heard of.
func (t *Table) Age() time.Duration { return time.Since(t.began) - time.Duration(t.synced.Load()) }

// Loaded says whether everything has been read once.
func (t *Table) Loaded() bool { return t.loaded.Load() }

// Tenants are all merchants that are known, in no order.
func (t *Table) Tenants() []shield.Tenant {
	known := *t.known.Load()
	all := make([]shield.Tenant, 0, len(known))
	for _, entry := range known {
		all = append(all, entry.view.Load().Tenant)
	}
	return all
}

// tenantOf is a merchant, or nil.
func (t *Table) tenantOf(id uuid.UUID) *tenant { return (*t.known.Load())[id] }

// replaced is what a request goes by now, if the rows that it went by were read anew meanwhile:
// they may be gone. Else it is nil.
func (t *Table) replaced(v *view) *view {
	if entry := t.tenantOf(v.ID); entry != nil {
		if now := entry.view.Load(); now.slot != v.slot {
			return now
		}
	}
	return nil
}

// held is a customer's record, or nil, and the view that it is of. Its shard is locked for reading:
// the caller unlocks it.
func (t *Table) held(v *view, customer string) (*shard, *view, []byte) {
	for {
		at := t.place(v.slot, customer)
		s := &t.records[at.shard]
		s.mutex.RLock()
		record := s.find(at.print, v.slot, customer)
		if record != nil {
			return s, v, record
		}
		next := t.replaced(v)
		if next == nil {
			return s, v, nil
		}
		s.mutex.RUnlock()
		v = next
	}
}

// Revision is up to which revision a merchant's rows are known, and -1 where the merchant is not.
func (t *Table) Revision(id uuid.UUID) int64 {
	if tenant := t.tenantOf(id); tenant != nil {
		return tenant.view.Load().Revision
	}
	return -1
}

// Epoch is of which history the table is.
func (t *Table) Epoch() string { return *t.epoch.Load() }

// loading is a reading of some merchants' rows, beside those that are answered from.
type loading struct {
	table *Table
	of    map[uuid.UUID]*loadingTenant
	large map[largeKey][]shield.Row // customers with many subscriptions, until all are there
}

type loadingTenant struct {
	slot   uint32
	policy shield.Policy
}

type largeKey struct {
	of       *loadingTenant
	customer string
}

// mostGrown is how many subscriptions a record takes one by one.
const mostGrown = 16

// add adds a row. Rows of merchants that are not loaded are left out.
func (l *loading) add(merchant uuid.UUID, row shield.Row) {
	of, is := l.of[merchant]
	if !is || row.Gone {
		return
	}
	if len(l.large) > 0 {
		key := largeKey{of, row.Customer}
		if rows, is := l.large[key]; is {
			l.large[key] = append(rows, row)
			return
		}
	}
	if rows := l.table.put(of.slot, &of.policy, row); len(rows) > mostGrown {
		l.large[largeKey{of, row.Customer}] = rows
	}
}

// Load replaces what is known of these merchants, or of all, with what rows gives. Requests are
// answered from what was known until it is all there. Where rows fails, nothing changes.
func (t *Table) Load(epoch string, tenants []shield.Tenant, all bool, rows func(add func(uuid.UUID, shield.Row)) error) error {
	l := &loading{table: t, of: map[uuid.UUID]*loadingTenant{}, large: map[largeKey][]shield.Row{}}
	fresh := map[uint32]bool{}
	for _, tenant := range tenants {
		t.slots++
		l.of[tenant.ID], fresh[t.slots] = &loadingTenant{t.slots, tenant.Policy}, true
	}
	if err := rows(l.add); err != nil {
		t.drop(fresh)
		return err
	}
	for key, rows := range l.large {
		t.set(key.of.slot, &key.of.policy, key.customer, rows)
	}
	t.epoch.Store(&epoch)
	known, old, keep := maps.Clone(*t.known.Load()), map[uint32]bool{}, map[uuid.UUID]bool{}
	for _, of := range tenants {
		keep[of.ID] = true
		entry := known[of.ID]
		if entry == nil {
			entry = &tenant{}
			known[of.ID] = entry
		} else {
			old[entry.view.Load().slot] = true
		}
		entry.view.Store(newView(of, l.of[of.ID].slot, epoch))
	}
	for id, entry := range known {
		if all && !keep[id] {
			old[entry.view.Load().slot] = true
			delete(known, id)
		}
	}
	t.known.Store(&known)
	t.drop(old)
	t.loaded.Store(true)
	for _, of := range tenants {
		t.hub.restart(of.ID)
	}
	return nil
}

func newView(of shield.Tenant, slot uint32, epoch string) *view {
	v := &view{Tenant: of, slot: slot, features: map[shield.Level][]byte{}, flags: flagsOf(&of.Policy)}
	v.at(epoch, of.Revision)
	for _, level := range shield.Levels {
		switch level {
		case shield.Limited:
			v.features[level] = appendStrings(nil, of.Policy.Features.Limited)
		case shield.Blocked:
			v.features[level] = appendStrings(nil, of.Policy.Features.Blocked)
		default:
			v.features[level] = []byte("[]")
		}
	}
	return v
}

// at takes a view to a revision.
func (v *view) at(epoch string, revision int64) {
	v.Revision, v.revision = revision, token(epoch, revision)
	v.revisionHeader = []string{v.revision}
}

// Apply writes rows that have changed, and takes the merchant to a revision. One that is not known
// changes nothing. Only the one writer calls it.
func (t *Table) Apply(merchant uuid.UUID, revision int64, rows []shield.Row) {
	entry := t.tenantOf(merchant)
	if entry == nil {
		return
	}
	now := entry.view.Load()
	for _, row := range rows {
		t.put(now.slot, &now.Policy, row)
	}
	next := *now
	next.at(t.Epoch(), revision)
	entry.view.Store(&next)
	t.hub.tell(merchant, revision, rows)
}

// Describe takes what is new of a merchant beside the rows: their connection. A policy that has
// changed asks for a [Table.Load].
func (t *Table) Describe(of shield.Tenant) {
	entry := t.tenantOf(of.ID)
	if entry == nil {
		return
	}
	next := *entry.view.Load()
	next.Disconnected = of.Disconnected
	entry.view.Store(&next)
}

// put writes one row of a customer's, and returns all of them. Of an owner that is not the one
// before it takes the row away.
func (t *Table) put(slot uint32, policy *shield.Policy, row shield.Row) []shield.Row {
	at := t.place(slot, row.Customer)
	if was, is := t.ownerOf(slot, row.Subscription); is && was != at {
		t.remove(slot, policy, was, row.Subscription)
	}
	s := &t.records[at.shard]
	s.mutex.Lock()
	var rows []shield.Row
	if record := s.find(at.print, slot, row.Customer); record != nil {
		rows = decode(record, t.products.list(), row.Customer)
	}
	rows = replace(rows, row)
	t.write(s, at, slot, policy, row.Customer, rows)
	s.mutex.Unlock()
	if row.Gone {
		t.owners[t.ownerShard(slot, row.Subscription)].remove(t.ownerPrint(slot, row.Subscription), at)
	} else {
		t.own(slot, row.Subscription, at)
	}
	return rows
}

// set writes all rows of a customer's.
func (t *Table) set(slot uint32, policy *shield.Policy, customer string, rows []shield.Row) {
	at := t.place(slot, customer)
	s := &t.records[at.shard]
	s.mutex.Lock()
	t.write(s, at, slot, policy, customer, rows)
	s.mutex.Unlock()
	for _, row := range rows {
		t.own(slot, row.Subscription, at)
	}
}

// write writes a customer's record, or takes it away where no row is left. The shard is locked.
func (t *Table) write(s *shard, at place, slot uint32, policy *shield.Policy, customer string, rows []shield.Row) {
	if len(rows) == 0 {
		s.remove(at.print, slot, customer)
		return
	}
	s.scratch = encode(s.scratch[:0], slot, policy, customer, rows, &t.products)
	s.put(at.print, slot, customer)
}

// remove takes a subscription away from the customer who had it before.
func (t *Table) remove(slot uint32, policy *shield.Policy, at place, subscription string) {
	s := &t.records[at.shard]
	s.mutex.Lock()
	defer s.mutex.Unlock()
	record := s.findOwner(at.print, slot, subscription)
	if record == nil {
		return
	}
	customer := customerOf(record)
	rows := decode(record, t.products.list(), customer)
	t.write(s, at, slot, policy, customer, replace(rows, shield.Row{Subscription: subscription, Gone: true}))
}

// replace puts a row in the place of the one of the same subscription, or takes that away.
func replace(rows []shield.Row, row shield.Row) []shield.Row {
	for i := range rows {
		if rows[i].Subscription == row.Subscription {
			if row.Gone {
				return append(rows[:i], rows[i+1:]...)
			}
			rows[i] = row
			return rows
		}
	}
	if row.Gone {
		return rows
	}
	return append(rows, row)
}

// drop forgets records of slots that nobody answers from any more.
func (t *Table) drop(slots map[uint32]bool) {
	if len(slots) == 0 {
		return
	}
	for i := range t.records {
		s := &t.records[i]
		s.mutex.Lock()
		s.keep(func(record []byte) bool { return !slots[slotOf(record)] })
		s.mutex.Unlock()
	}
	for i := range t.owners {
		o := &t.owners[i]
		o.mutex.Lock()
		o.keep(func(at place) bool {
			s := &t.records[at.shard]
			s.mutex.RLock()
			defer s.mutex.RUnlock()
			return s.has(at.print)
		})
		o.mutex.Unlock()
	}
}

// rowsOf gives all rows of a merchant. What changes meanwhile may be given as before or after.
func (t *Table) rowsOf(v *view) iter.Seq[shield.Row] {
	return func(yield func(shield.Row) bool) {
		for i := range t.records {
			s := &t.records[i]
			var batch [][]byte
			s.mutex.RLock()
			s.each(func(record []byte) {
				if slotOf(record) == v.slot {
					batch = append(batch, append([]byte(nil), record...))
				}
			})
			s.mutex.RUnlock()
			for _, record := range batch {
				for _, row := range decode(record, t.products.list(), customerOf(record)) {
					if !yield(row) {
						return
					}
				}
			}
		}
	}
}

// Bytes is how much memory the table's blocks take.
func (t *Table) Bytes() (n int64) {
	for i := range t.records {
		t.records[i].mutex.RLock()
		n += t.records[i].bytes()
		t.records[i].mutex.RUnlock()
		t.owners[i].mutex.RLock()
		n += int64(8 * len(t.owners[i].entries))
		t.owners[i].mutex.RUnlock()
	}
	return n
}

// names keeps each product once.
type names struct {
	mutex sync.Mutex
	index map[string]uint64
	all   atomic.Pointer[[]string]
}

func (n *names) of(name string) uint64 {
	n.mutex.Lock()
	defer n.mutex.Unlock()
	if at, is := n.index[name]; is {
		return at
	}
	if n.index == nil {
		n.index = map[string]uint64{}
	}
	all := append(n.list(), name) // readers see no further than the length that they know
	at := uint64(len(all) - 1)
	n.index[name] = at
	n.all.Store(&all)
	return at
}

func (n *names) list() []string {
	if all := n.all.Load(); all != nil {
		return *all
	}
	return nil
}
