# Lists the recipes.
default:
    @just --list --unsorted

# Shows every mechanism at work, with a second process.
tour *args:
    cargo run --release --example tour -- {{args}}

# Runs all tests, at the counts of a developer's machine.
test *args:
    cargo test --workspace {{args}}

# Runs all tests at CI's counts.
test-full:
    SINEW_TEST_SCALE=ci cargo test --workspace

# Formats.
fmt:
    cargo fmt --all

# Lints, with warnings denied.
clippy:
    ci/clippy.sh

# Builds the documentation, with warnings denied.
doc:
    ci/doc.sh

# Checks the models.
loom:
    ci/loom.sh

# Runs every example.
examples:
    ci/examples.sh

# Measures a suite (shm, carriers or sync) beside its limits and its peers: `just bench carriers --quick`.
bench suite="shm" *args:
    cargo run --release -p sinew-bench -- {{suite}} {{args}}

# Counts the instructions, loads and stores of a free lock beside the bare atomic operations. Needs valgrind.
count-locks:
    ci/count-locks.sh

# Measures HTTP, gRPC and tarpc over Sinew beside UNIX sockets: `just bench-protocols --quick --only axum`.
bench-protocols *args:
    cargo run --release -p sinew-bench-protocols -- {{args}}

# Fuzzes a target for some time: `just fuzz ring 60`. Needs a nightly toolchain and cargo-fuzz.
fuzz target seconds="60":
    cd fuzz && cargo +nightly fuzz run {{target}} -- -max_total_time={{seconds}}

# Checks licences, advisories and sources of the dependencies. Needs cargo-deny.
deny:
    cargo deny check

# Does all that CI does.
ci:
    CI=true .ci/run
