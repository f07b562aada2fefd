#!/usr/bin/env bash
# Every interleaving of the models that stand beside the code.
set -euo pipefail
RUSTFLAGS="--cfg loom" cargo test --release -p sinew-ring --lib --target-dir target/loom
