#!/usr/bin/env bash
# README's first command, for people and for machines.
set -euo pipefail
timeout 300 cargo run --release --example tour
timeout 300 cargo run --quiet --release --example tour -- --json
