// Package deploy holds what runs PHANTOM: compose, systemd, Kubernetes, alerts and a dashboard. Its
// tests hold these against the program.
package deploy
