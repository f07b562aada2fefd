#!/usr/bin/env bash
# Runs every example as a newcomer would; each ends by itself. The tour has a script of its own.
set -euo pipefail
cargo build --examples
for example in $(cargo metadata --no-deps --format-version 1 |
    grep -oE '"kind":\["example"\],"crate_types":\["bin"\],"name":"[a-z0-9_]+"' |
    sed -E 's/.*"name":"([a-z0-9_]+)"/\1/' | sort -u); do
    [ "$example" = tour ] && continue
    echo "-- $example"
    timeout 120 cargo run --quiet --example "$example"
done
