#!/usr/bin/env bash
# Counts the tests that could not run here. Under CI, none may be missing what ci/install.sh can install.
set -euo pipefail
log=${SINEW_SKIP_LOG:-/dev/null}
count=$(wc -l <"$log")
echo "skipped: $count"
sort "$log" | uniq -c
if [ "${CI:-}" = true ] && grep -q 'not installed' "$log"; then
    echo "a skip above is for something that ci/install.sh should install" >&2
    exit 1
fi
