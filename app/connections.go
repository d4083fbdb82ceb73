package app

const (
	// requestConnections are for what requests ask for, beside the workers' own.
	requestConnections = 12
	// queueConnections are for what the queues themselves ask for: tasks that wait for each other's
	// locks must not keep them from claiming and from extending leases.
	queueConnections = 4
)

// Connections is how many connections a process may hold for requests and tasks: one for each
// worker of its queues, and some for requests.
func (c *Config) Connections() int {
	switch {
	case c.PoolSize > 0:
		return max(c.PoolSize-c.ConnectionsOfQueues(), 1)
	case c.Workers == 0:
		return requestConnections
	}
	return c.Workers + urgentWorkers + firstWorkers + requestConnections
}

// apiRequests is how many requests of the merchant API are answered at a time. What they leave of
// the connections is for webhooks, handshakes and workers.
func (c *Config) apiRequests() int64 {
	return int64(max(min(requestConnections-3, c.Connections()/2), 1))
}

// ConnectionsOfQueues is how many it may hold for its queues, a quarter at most.
func (c *Config) ConnectionsOfQueues() int {
	switch {
	case c.Workers == 0:
		return 0
	case c.PoolSize > 0:
		return max(min(queueConnections, c.PoolSize/4), 1)
	}
	return queueConnections
}
