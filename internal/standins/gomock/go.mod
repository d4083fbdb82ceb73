// Stands in for the module of this name: ../README.md says why.
module github.com/golang/mock

go 1.26
