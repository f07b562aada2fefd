#!/usr/bin/env bash
set -euo pipefail
cargo clippy --workspace --all-targets -- -D warnings
cargo clippy -p sinew-ring --no-default-features -- -D warnings
