// Package state names the states of ghosts, tasks, hunts, attempts, messages, audits and starts,
// and the modes of playbooks, as rows hold them and the HTTP API shows them. The CHECKs of the
// database list the same words, but for a playbook's off; db's TestWordsOfColumns compares them.
// The package imports nothing of ours.
package state

// Ghost is the status of a ghost: ghost_targets.status. Package debt names why one has closed.
type Ghost string

// The statuses of ghosts.
const (
	GhostOpen   Ghost = "open"
	GhostClosed Ghost = "closed"
)

// Ghosts are all of them.
var Ghosts = []Ghost{GhostOpen, GhostClosed}

// Task is the status of a task: scheduled_tasks.status. docs/task-states.md says how they follow
// each other.
type Task string

// The statuses of tasks.
const (
	TaskPending   Task = "pending" // due at its run_at, or waiting for that
	TaskRunning   Task = "running"
	TaskSucceeded Task = "succeeded"
	TaskFailed    Task = "failed"
	TaskCanceled  Task = "canceled"
	// until its merchant connects again, or Stripe accepts the token again
	TaskParked      Task = "parked"
	TaskNeedsReview Task = "needs_review" // a person looks at it
)

// Tasks are all of them.
var Tasks = []Task{TaskPending, TaskRunning, TaskSucceeded, TaskFailed, TaskCanceled, TaskParked, TaskNeedsReview}

// Hunt is the state of a hunt: hunts.state. docs/hunt-states.md says how they follow each other.
type Hunt string

// The states of hunts.
const (
	HuntActive    Hunt = "active"
	HuntRecovered Hunt = "recovered"
	HuntExhausted Hunt = "exhausted" // its window is over
	HuntStopped   Hunt = "stopped"
)

// Hunts are all of them.
var Hunts = []Hunt{HuntActive, HuntRecovered, HuntExhausted, HuntStopped}

// Attempt is what became of a request about an object at Stripe: attempts.result. There is none
// before it is known.
type Attempt string

// The results of attempts.
const (
	AttemptDone       Attempt = "done" // of every change but a charge
	AttemptPaid       Attempt = "paid"
	AttemptProcessing Attempt = "processing" // the bank still moves the money
	AttemptDeclined   Attempt = "declined"
	AttemptRefused    Attempt = "refused"  // Stripe takes no such request
	AttemptNotSent    Attempt = "not_sent" // something forbade it before it left
	AttemptAbsent     Attempt = "absent"   // it left, and never reached Stripe
	AttemptUnknown    Attempt = "unknown"  // a person has given it up
)

// Attempts are all of them.
var Attempts = []Attempt{
	AttemptDone, AttemptPaid, AttemptProcessing, AttemptDeclined, AttemptRefused, AttemptNotSent, AttemptAbsent, AttemptUnknown,
}

// Message is the state of a message: messages.state.
type Message string

// The states of messages.
const (
	MessagePlanned Message = "planned"
	MessageSending Message = "sending" // a request may be out
	MessageSent    Message = "sent"
	MessageSkipped Message = "skipped"
	MessageFailed  Message = "failed"
	MessageUnclear Message = "unclear" // it may have been sent
)

// Messages are all of them.
var Messages = []Message{MessagePlanned, MessageSending, MessageSent, MessageSkipped, MessageFailed, MessageUnclear}

// Audit is the state of an audit: audits.state.
type Audit string

// The states of audits.
const (
	AuditRunning   Audit = "running"
	AuditSucceeded Audit = "succeeded"
	AuditFailed    Audit = "failed"
)

// Audits are all of them.
var Audits = []Audit{AuditRunning, AuditSucceeded, AuditFailed}

// Start is the state of a start of hunts for all ghosts: hunt_starts.state.
type Start string

// The states of starts.
const (
	StartRunning   Start = "running"
	StartSucceeded Start = "succeeded"
	StartStopped   Start = "stopped" // by another playbook, another mode, a lost connection
	StartFailed    Start = "failed"
)

// Starts are all of them.
var Starts = []Start{StartRunning, StartSucceeded, StartStopped, StartFailed}

// Mode is what a playbook allows: its mode, and hunts.mode, which is never off.
type Mode string

// The modes.
const (
	ModeOff     Mode = "off"     // no hunts
	ModeObserve Mode = "observe" // plans and reports, touches nothing
	ModeRecover Mode = "recover"
)

// Modes are all of them.
var Modes = []Mode{ModeOff, ModeObserve, ModeRecover}
