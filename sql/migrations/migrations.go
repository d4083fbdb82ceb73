// Package migrations holds the database's schema as numbered SQL files, which package db runs in
// order.
package migrations

import "embed"

// Files are the migrations. Once landed, a file changes in its comments alone: the next change
// is a new file.
//
//go:embed *.sql
var Files embed.FS
