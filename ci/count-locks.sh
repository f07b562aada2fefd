#!/usr/bin/env bash
# Counts what taking and giving back a free lock costs beside the two atomic operations: instructions, loads and
# stores for each pair, under valgrind's callgrind. The counts do not depend on the processor or on its load.
set -euo pipefail
cargo build --quiet --release -p sinew-sync --example count_locks
program=${CARGO_TARGET_DIR:-target}/release/examples/count_locks
few=1000 many=101000

# Prints the instructions, loads and stores of a run.
count() {
    valgrind --tool=callgrind --callgrind-out-file=/dev/null --cache-sim=yes "$program" "$1" "$2" 2>&1 | tr -d , |
        awk '/ I +refs:/ { i = $4 } / D +refs:/ { sub(/.*\(/, ""); print i, $1, $4 }'
}

printf '%-20s %12s %8s %8s\n' pair instructions loads stores
for kind in raw-mutex mutex blocking-mutex raw-semaphore semaphore blocking-semaphore; do
    # The difference leaves out what a run takes besides.
    echo "$(count $kind $few) $(count $kind $many)" | awk -v kind=$kind -v pairs=$((many - few)) \
        '{ printf "%-20s %12.1f %8.1f %8.1f\n", kind, ($4 - $1) / pairs, ($5 - $2) / pairs, ($6 - $3) / pairs }'
done
