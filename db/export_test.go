package db

// SealedColumns lists what Rewrap covers, as table.column.
func SealedColumns() []string {
	var names []string
	for _, c := range sealedColumns {
		names = append(names, c.table+"."+c.column)
	}
	return names
}

// What a test explains.
const (
	ByHash              = byHash
	AuditListDebtsQuery = auditListDebts
)
