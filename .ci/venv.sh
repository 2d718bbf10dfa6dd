#!/bin/sh
# Creates .venv from the pinned requirements. Debian splits venv from python3, so a bare machine may lack it.
set -eu
cd "$(dirname "$0")/.."
if ! python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
    echo "weinao needs Python 3.11 or newer; found $(python3 --version)" >&2
    exit 2
fi
if ! python3 -c 'import ensurepip' 2>/dev/null; then
    if [ "$(id -u)" = 0 ]; then
        apt-get update -qq && apt-get install -y -qq python3-venv >/dev/null
    else
        echo "python3-venv is missing. Run: sudo apt-get install -y python3-venv" >&2
        exit 2
    fi
fi
echo "Preparing .venv (once; a minute or two) ..."
[ -x .venv/bin/python ] || python3 -m venv .venv
.venv/bin/python -m pip install -q --disable-pip-version-check --require-hashes -r requirements-dev.txt
.venv/bin/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e . -e hardware-sim
