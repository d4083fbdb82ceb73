package gate

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strconv"
	"testing"
)

// A code without a line in rules would wait for ever, and say nothing.
func TestEveryCodeHasARule(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := 0
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok || len(spec.Values) != 1 {
			return true
		}
		kind, isCode := spec.Type.(*ast.Ident)
		value, isText := spec.Values[0].(*ast.BasicLit)
		if !isCode || kind.Name != "Code" || !isText {
			return true
		}
		text, err := strconv.Unquote(value.Value)
		if err != nil {
			t.Fatal(err)
		}
		codes++
		if rules[Code(text)].words == "" {
			t.Errorf("%s has no line in rules", spec.Names[0].Name)
		}
		return true
	})
	if codes != len(rules) {
		t.Errorf("%d codes and %d rules", codes, len(rules))
	}
}
