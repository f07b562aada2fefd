#!/usr/bin/env bash
# Unsafe code is denied for the workspace; this checks that only the files meant for it opt in.
set -euo pipefail
found=$(git grep -lE '(allow|expect)\([^)]*unsafe_code|^\s*unsafe_code,$' -- '*.rs' |
    grep -vE '(^|/)sys\.rs$|^crates/sinew-ring/src/(consumer|heap|memory|model|producer|tests)\.rs$|/tests/' || true)
if [ -n "$found" ]; then
    echo "unsafe code outside sys.rs and the ring: $found" >&2
    exit 1
fi
echo "unsafe blocks: $(git grep -E '\bunsafe \{|unsafe impl' -- 'crates/*/src/*.rs' | wc -l)," \
    "SAFETY lines: $(git grep -E '// SAFETY:' -- 'crates/*/src/*.rs' | wc -l)"
