package debt

// Invoice is an unpaid invoice of a ghost, as ghost_targets.invoices holds it.
type Invoice struct {
	ID      string `json:"id"`
	Amount  int64  `json:"amount"`            // what remains, in minor units
	Created int64  `json:"created,omitempty"` // Unix seconds; 0 in rows of before it was kept
}
