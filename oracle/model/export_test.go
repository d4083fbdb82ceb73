package model

// Value is the chance that a debt is paid within its window, as far as the plan reaches.
func (m *Model) Value(q Question) float64 {
	if len(q.Tried) == 0 || q.Left < 1 || q.NotAfter.Before(q.NotBefore) {
		return 0
	}
	r := m.reader(&q)
	days := r.window()
	r.value(days)
	best := 0.0
	for _, d := range days {
		best = max(best, d.value)
	}
	return best
}
