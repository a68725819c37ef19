# Names for what a person types. Everything honours CARGO_TARGET_DIR.
.PHONY: build test lint fmt demo serve interop failover bench bench-compare bench-store bench-cold-reads bench-catch-up failover-bench jepsen-smoke jepsen clean

build:            ## binaries mqbroker, mqnamesrv and the tools
	cargo build --release --workspace
test:             ## Rust tests
	./test
lint:             ## formatting and clippy, as CI runs them
	cargo fmt --all --check
	cargo clippy --release --workspace --all-targets -- -D warnings
fmt:
	cargo fmt --all
demo:             ## three replicas, the leader killed, nothing lost
	./quickstart
serve:            ## a cluster in the foreground until Ctrl-C
	./quickstart --serve
interop:          ## unmodified Java and Go clients against a fresh cluster
	./interop/ci
bench:            ## micro-benchmarks
	cargo bench -p raftmq-benches
bench-compare:    ## side by side with the Java broker; FULL=1: the whole matrix (hours)
	./benches/compare $(if $(FULL),--full)
bench-store:      ## the storage without a broker around it
	./benches/store-all
bench-cold-reads: ## producers while a consumer drains what is only on disk
	./benches/cold-reads
bench-catch-up:   ## a replica that was away, and what its return costs
	./benches/catch-up
failover-bench:   ## the leader killed KILLS times (50) at half load: how long the set takes no messages
	./benches/failover --kills $(or $(KILLS),50)
jepsen-smoke:     ## clusters under faults, and controls that must fail: six minutes; root
	./jepsen/run smoke $(if $(DIR),--dir $(DIR))
jepsen:           ## every kind of fault, three hours; goes on where it was interrupted; root
	./jepsen/run matrix --dir $(or $(DIR),/tmp/raftmq-jepsen/matrix)
clean:
	cargo clean
