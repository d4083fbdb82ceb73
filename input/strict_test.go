package input

import (
	"errors"
	"strings"
	"testing"
)

func TestStrict(t *testing.T) {
	t.Parallel()
	s := Strict{Only: "takes only name and amounts", Names: func(path string) bool { return path == "amounts" || strings.HasSuffix(path, ".inner") }}
	for text, field := range map[string]string{
		`{"name":"x","amounts":{"USD":{"inner":{"Any":1}}}}`: "",
		`{}`:                      "",
		`{"name":"x","name":"y"}`: "name", `{"name":null}`: "name", `null`: "body", `{"Name":"x"}`: "body", `{"other":1}`: "body",
		`{"name":5}`: "name", `[]`: "body", ``: "body", `{`: "body", `{} {}`: "body", `{}x`: "body",
		`{"amounts":{"usd":{"inner":{"a":1}},"usd":{"inner":{"a":1}}}}`: "amounts", `{"amounts":{"zqx":null}}`: "amounts",
		`{"amounts":{"zqx":{"INNER":{}}}}`: "body", `{"amounts":{"zqx":{"inner":{"a":1,"a":2}}}}`: "amounts.inner",
	} {
		t.Run(text, func(t *testing.T) {
			t.Parallel()
			var into struct {
				Name    string                                    `json:"name"`
				Amounts map[string]struct{ Inner map[string]int } `json:"amounts"`
			}
			err := s.Decode([]byte(text), &into)
			if field == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			var wrong *FieldError
			if !errors.As(err, &wrong) || wrong.Field != field {
				t.Fatalf("error %v, want one of the field %s", err, field)
			}
			if strings.Contains(err.Error(), "zqx") {
				t.Errorf("the error quotes what was sent: %v", err)
			}
		})
	}
}

// Without names of the sender's own every field is ours.
func TestStrictWithoutNames(t *testing.T) {
	t.Parallel()
	var into struct{ Name string }
	if err := (Strict{Only: "takes only name"}).Decode([]byte(`{"name":"x"}`), &into); err != nil || into.Name != "x" {
		t.Errorf("%+v, %v", into, err)
	}
}
