// Stands in for the module of this name: ../README.md says why.
module github.com/pbnjay/memory

go 1.26
