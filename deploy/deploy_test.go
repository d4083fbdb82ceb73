package deploy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"phantom/cli"
)

func read(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// documents are the documents of a YAML file.
func documents(t *testing.T, path string) (all []map[string]any) {
	t.Helper()
	decoder := yaml.NewDecoder(bytes.NewReader([]byte(read(t, path))))
	for {
		var one map[string]any
		err := decoder.Decode(&one)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		all = append(all, one)
	}
}

// at walks into a document.
func at(value any, path ...any) any {
	for _, step := range path {
		switch v := value.(type) {
		case map[string]any:
			key, _ := step.(string)
			value = v[key]
		case []any:
			n, _ := step.(int)
			if n >= len(v) {
				return nil
			}
			value = v[n]
		default:
			return nil
		}
	}
	return value
}

var metricShape = regexp.MustCompile(`phantom_[a-z_]+`)

// Every metric that an alert, the dashboard or the autoscaler names is one that the runbook
// explains.
func TestMetricsAreThere(t *testing.T) {
	t.Parallel()
	runbook := read(t, "../docs/runbook.md")
	named := 0
	for _, path := range []string{"alerts.yaml", "grafana.json", "kubernetes/phantom.yaml"} {
		for _, name := range metricShape.FindAllString(read(t, path), -1) {
			named++
			if !strings.Contains(runbook, strings.TrimSuffix(strings.TrimSuffix(name, "_sum"), "_count")) {
				t.Errorf("%s names the metric %s, and docs/runbook.md does not", path, name)
			}
		}
	}
	if named < 20 {
		t.Errorf("%d names of metrics are found", named)
	}
	for _, one := range documents(t, "alerts.yaml") {
		rules, _ := at(one, "groups", 0, "rules").([]any)
		if len(rules) < 8 {
			t.Errorf("%d alerts", len(rules))
		}
		for _, rule := range rules {
			if at(rule, "alert") == nil || at(rule, "expr") == nil || at(rule, "annotations", "summary") == nil || at(rule, "labels", "severity") == nil {
				t.Errorf("an alert lacks its name, rule, summary or severity: %v", rule)
			}
		}
	}
	var dashboard struct {
		Panels []struct{ Title, Description string }
	}
	if err := json.Unmarshal([]byte(read(t, "grafana.json")), &dashboard); err != nil || len(dashboard.Panels) < 8 {
		t.Errorf("the dashboard: %d panels, %v", len(dashboard.Panels), err)
	}
}

var variableShape = regexp.MustCompile(`(?m)^([A-Z][A-Z_]+)=`)

// Every variable and command that the files use is one that there is.
func TestVariablesAndCommandsAreThere(t *testing.T) {
	t.Parallel()
	readme := read(t, "../README.md")
	known := func(path, name string) {
		t.Helper()
		if name != "POSTGRES_PASSWORD" && !strings.Contains(readme, "- "+name+":") {
			t.Errorf("%s sets %s, which README.md does not list", path, name)
		}
	}
	for _, match := range variableShape.FindAllStringSubmatch(read(t, "phantom.env.example"), -1) {
		known("phantom.env.example", match[1])
	}
	compose := documents(t, "compose.yaml")[0]
	for _, service := range []string{"serve", "work"} {
		environment, _ := at(compose, "services", service, "environment").(map[string]any)
		if len(environment) == 0 {
			t.Errorf("compose.yaml: %s has no environment", service)
		}
		for name := range environment {
			if name != "<<" {
				known("compose.yaml", name)
			}
		}
	}
	var used []string
	for _, one := range documents(t, "kubernetes/phantom.yaml") {
		container := at(one, "spec", "template", "spec", "containers", 0)
		if container == nil {
			continue
		}
		command, _ := at(container, "args", 0).(string)
		used = append(used, command)
		for n := 0; at(container, "env", n) != nil; n++ {
			name, _ := at(container, "env", n, "name").(string)
			known("kubernetes/phantom.yaml", name)
		}
		if at(container, "securityContext", "readOnlyRootFilesystem") != true || at(container, "securityContext", "runAsNonRoot") != true {
			t.Errorf("kubernetes/phantom.yaml: %s may write or is root", command)
		}
	}
	for _, service := range []string{"work", "edge"} {
		command, _ := at(compose, "services", service, "command", 0).(string)
		used = append(used, command)
	}
	for _, command := range used {
		if !slices.Contains(cli.Commands(), command) {
			t.Errorf("phantom has no command %q", command)
		}
	}
	if len(used) != 5 {
		t.Errorf("commands: %v", used)
	}
	if !strings.Contains(read(t, "phantom.service"), "ExecStart=/usr/local/bin/phantom serve\n") {
		t.Error("the unit starts something else")
	}
}
