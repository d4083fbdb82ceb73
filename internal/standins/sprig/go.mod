// Stands in for the module of this name: ../README.md says why.
module github.com/Masterminds/sprig/v3

go 1.26
