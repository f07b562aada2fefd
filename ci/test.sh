#!/usr/bin/env bash
# README's test command, at full counts under CI. Doctests are part of it.
set -euo pipefail
if [ "${CI:-}" = true ]; then
    export SINEW_TEST_SCALE=ci
fi
cargo test --workspace
