// Stands in for the module of this name: ../README.md says why.
module github.com/pkg/errors

go 1.26
