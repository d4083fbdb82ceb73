SHELL := /bin/bash
VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
BIN ?= bin/phantom
TOOL := CGO_ENABLED=0 go tool -modfile=tools.mod
FUZZTIME ?= 30s
PKG ?= ./...
# A package without goroutines, whose arithmetic the race detector makes ten times slower.
CALCULATE = phantom/oracle/worlds$$

.DEFAULT_GOAL := help

.PHONY: help
help: ## List these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  %-13s %s\n", $$1, $$2}'

.PHONY: run
run: ## Run PHANTOM in dev mode; installs PostgreSQL where it is missing
	@.ci/deps postgresql
	go run .

.PHONY: check
check: ## Check formatting, linters and that everything compiles: the inner loop
	@$(MAKE) --no-print-directory lint
	go vet ./... && go vet -tags failpoints ./recovery
	cd bench && go vet ./...

.PHONY: test-fast
test-fast: ## Run the tests without race detector, kills, soaks, browsers; PKG=./task
	@.ci/deps postgresql
	go test -count=1 -timeout 15m -skip 'Kill|Browser|Floods|Soak|Millions' $(PKG)

.PHONY: cover
cover: ## Say how much of each package its tests run; PKG=./task
	@.ci/deps postgresql
	set -o pipefail; go test -count=1 -timeout 25m -cover $(PKG) | awk '$$1 == "ok" && /coverage:/ {print $$2, $$5}' | column -t

.PHONY: test
test: deps ## Run all tests with the race detector, but those of worlds, which only calculate
	go test -race -count=1 -timeout 25m $$(go list ./... | grep -v '$(CALCULATE)')
	go test -count=1 -timeout 20m ./oracle/worlds
	PHANTOM_SOAK=1 go test -count=1 -timeout 20m -run '^(TestPartitions|TestFailures)$$' .
	go test -count=1 -timeout 20m -tags failpoints -run 'TestMoney|TestSimulation' ./recovery
	.ci/clocks few
	cd bench && go vet ./... && go test ./...

.PHONY: clocks
clocks: ## Run what time bears on under a dozen clocks (test takes five)
	@.ci/deps postgresql
	.ci/clocks

.PHONY: deps
deps: ## Install what the tests need where it is missing
	@.ci/deps postgresql pgbouncer chromium nodejs gcc

.PHONY: build
build: ## Build the static binary bin/phantom (minimal: without the chart library's other formats)
	CGO_ENABLED=0 go build -buildvcs=false -trimpath -tags minimal -ldflags '-s -w -X main.version=$(VERSION)' -o '$(BIN)' .

.PHONY: openapi
openapi: ## Pack docs/openapi.json for the binary, after a change of it
	gzip -9nc docs/openapi.json > docs/openapi.json.gz

.PHONY: licenses
licenses: ## Collect the licences of the binary's modules anew, after a change of go.mod
	go run ./internal/licenses

.PHONY: sbom
sbom: build ## Write bin/phantom.cdx.json: what the binary is made of, as CycloneDX
	$(TOOL) cyclonedx-gomod bin -json -version '$(VERSION)' -output bin/phantom.cdx.json '$(BIN)'

.PHONY: reproducible
reproducible: build ## Build the binary in another folder with another cache, and compare
	.ci/reproducible

.PHONY: sqlc
sqlc: ## Generate package db from sql/ anew
	rm -f db/*.sql.go db/db.go db/models.go db/copyfrom.go
	$(TOOL) sqlc generate
	$(TOOL) sqlc vet

.PHONY: lint
lint: ## Check formatting, import directions and the linters
	@test -z "$$(gofmt -l .)" || { echo "gofmt would change:"; gofmt -l .; exit 1; }
	$(TOOL) golangci-lint run ./...

.PHONY: mutants
mutants: ## Take every guard out, one at a time, and see its test go red
	@.ci/deps postgresql
	go run ./internal/mutants

.PHONY: mutants-quick
mutants-quick: ## As mutants, of the guards whose file, test or entry has changed, for six minutes
	@.ci/deps postgresql
	@base=$$(git merge-base HEAD origin/main 2>/dev/null || true); \
	test -n "$$base" -a "$$base" != "$$(git rev-parse HEAD)" || base=HEAD~1; \
	go run ./internal/mutants -changed "$$base" -within 6m

.PHONY: bench
bench: build ## Measure against peers; docs/benchmarks.md holds the figures
	cd bench && go run ./cmd/ratios
	cd bench && go run ./cmd/process ../bin/phantom

.PHONY: bench-queue
bench-queue: ## Measure the queue beside River
	cd bench && go run ./cmd/queue

.PHONY: bench-api
bench-api: ## Measure the merchant API over 1,000,000 ghosts
	cd bench && go run ./cmd/api

.PHONY: bench-rls
bench-rls: ## Measure what row-level security would cost (ADR 0020)
	cd bench && go run ./cmd/rls

.PHONY: bench-shield
bench-shield: ## Measure answers about access beside a hello-world server, and how soon a change is seen
	cd bench && go run ./cmd/shield

.PHONY: bench-oracle
bench-oracle: ## Examine the oracle in all worlds with three seeds, and measure a night and a question
	go test ./oracle/worlds -count=1 -timeout 60m -run '^TestExam$$' -v -args -seeds 3
	GOMAXPROCS=1 go test ./oracle -count=1 -timeout 20m -run '^TestRebuildOfMany$$' -v -args -cells 1000000

.PHONY: bench-charges
bench-charges: ## Measure due charges beside the sandbox's ceiling and beside River's bare call
	cd bench && go run ./cmd/charges

.PHONY: soak-queue
soak-queue: ## Kill workers at random over 100,000 tasks
	PHANTOM_TASKS=100000 go test -run TestKilledProcesses -v -timeout 30m ./task

.PHONY: soak-purge
soak-purge: ## Kill purging processes twenty times over 1,000,000 ghosts
	PHANTOM_GHOSTS=1000000 go test -run TestPurgeSurvivesKills -count=1 -v -timeout 2h ./purge

.PHONY: soak-audit
soak-audit: ## Kill workers 200 times during audits
	PHANTOM_AUDIT_KILLS=200 go test -run TestKilledAudits -v -timeout 30m ./ghost

.PHONY: soak-money
soak-money: ## Kill workers 1,000 times amid 10,000 due charges; then without the key or reads
	PHANTOM_MONEY_TASKS=10000 PHANTOM_MONEY_KILLS=1000 go test -count=1 -tags failpoints -run TestMoney -v -timeout 150m ./recovery

.PHONY: soak-simulation
soak-simulation: ## Turn 20,000 simulated worlds of the money path in two processes
	go test -tags failpoints -c -o bin/simulation.test ./recovery
	cd recovery && { export GOMAXPROCS=1; PHANTOM_SEEDS=10000 ../bin/simulation.test -test.run '^TestSimulation$$' -test.v -test.timeout 4h & first=$$!; \
		PHANTOM_FIRST_SEED=10001 PHANTOM_SEEDS=10000 ../bin/simulation.test -test.run '^TestSimulation$$' -test.v -test.timeout 4h; second=$$?; \
		wait $$first && exit $$second; }

.PHONY: simulation-controls
simulation-controls: ## Take eleven guards of money out, and see the simulation miss each
	@.ci/deps postgresql
	go run ./internal/mutants -simulation

.PHONY: soak-floods
soak-floods: ## Flood the binary in five ways, and measure what another tenant sees
	@.ci/deps postgresql
	PHANTOM_LONG=1 go test -count=1 -run '^TestFloods$$' -v -timeout 30m .

.PHONY: soak-partitions
soak-partitions: ## Cut workers off for longer than a lease, and lose one (as root: own hosts)
	@.ci/deps postgresql
	PHANTOM_LONG=1 go test -count=1 -run '^TestPartitions$$' -v -timeout 30m .

.PHONY: soak-failures
soak-failures: ## Have PostgreSQL fail in eight ways while events come in (as root: its disk, too)
	@.ci/deps postgresql
	PHANTOM_LONG=1 go test -count=1 -run '^TestFailures$$' -v -timeout 60m .

.PHONY: soak-caps
soak-caps: ## Work off 10,000 requests to write to seven persons in three processes that are killed
	PHANTOM_LONG=1 go test -count=1 -run TestCapsHoldUnderHostileLoad -v -timeout 30m ./recovery

.PHONY: soak-stops
soak-stops: ## Race 1,000 webhooks against the charges that they stop
	PHANTOM_STOP_RACES=1000 go test -count=1 -run TestStopsBeatCharges -v -timeout 20m ./recovery

.PHONY: bench-audit
bench-audit: ## Measure audits beside a loop over stripe-go: rate, memory, limiter, writing
	cd bench && go run ./cmd/audit

.PHONY: emulators
emulators: ## Send to the emulators of Resend and Twilio that others wrote (npm emulate, Node 24)
	@.ci/deps postgresql
	.ci/emulators go test ./recovery ./message -run '^TestEmulated' -count=1 -v -timeout 10m

.PHONY: fuzz-messages
fuzz-messages: ## Try 1,000,000 hostile texts in every field of every message
	PHANTOM_CASES=1000000 go test ./message -run '^TestInjection$$' -count=1 -v -timeout 60m

.PHONY: fuzz
fuzz: ## Fuzz each target for FUZZTIME, then flip a million bits
	go test ./vault -run '^$$' -fuzz '^FuzzDecrypt$$' -fuzztime $(FUZZTIME)
	go test ./vault -run '^$$' -fuzz '^FuzzParseKey$$' -fuzztime $(FUZZTIME)
	go test ./vault -run '^$$' -fuzz '^FuzzCodec$$' -fuzztime $(FUZZTIME)
	go test ./web -run '^$$' -fuzz '^FuzzEvent$$' -fuzztime $(FUZZTIME)
	go test ./web -run '^$$' -fuzz '^FuzzSignature$$' -fuzztime $(FUZZTIME)
	go test ./message -run '^$$' -fuzz '^FuzzFields$$' -fuzztime $(FUZZTIME)
	go test ./vault -run EveryChange -v -flips 1000000
