// Stands in for the module of this name: ../README.md says why.
module github.com/mitchellh/colorstring

go 1.26
