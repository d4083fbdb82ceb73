// Package sql holds what is written by hand for PostgreSQL, beside migrations and queries.
package sql

import _ "embed"

// Roles gives the role that the setting phantom.runtime names what a server needs, and no more.
//
//go:embed roles.sql
var Roles string
