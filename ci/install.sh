#!/usr/bin/env bash
# Installs what the checks need besides a Rust toolchain and a C compiler. As root on Debian; elsewhere it
# says what is missing.
set -euo pipefail

# Counterparts of the tests: coreutils (cat, dd, sort), util-linux (ipcmk, ipcs, ipcrm, unshare), socat, nc, Python.
packages=(coreutils gcc iproute2 libc6-dev netcat-openbsd python3 python3-venv socat util-linux)

missing=()
for package in "${packages[@]}"; do
    dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
if [ ${#missing[@]} -gt 0 ]; then
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
    else
        echo "missing Debian packages: ${missing[*]}" >&2
        exit 1
    fi
fi
rustup component list --installed 2>/dev/null | grep -q clippy || rustup component add clippy rustfmt

# What the tests use from PyPI, in an environment of its own.
python=target/python
if ! "$python/bin/python" -m pip freeze 2>/dev/null | grep -qi '^posix_ipc=='; then
    python3 -m venv "$python"
    "$python/bin/python" -m pip install --quiet --requirement ci/requirements.txt
fi
