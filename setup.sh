#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Makes .venv with osmia, its compiler and its reader of C++ and Rust names in it.  May be run again at any time.
#   ./setup.sh            to use osmia
#   ./setup.sh test       to test it, too
set -eu
cd "$(dirname "$0")"
# The distribution's own python3 where there is one: sudo would find that, too, and as it is built with profiles and
# without a shared library it starts osmia some milliseconds earlier than what version managers build.
python=${PYTHON:-}
if [ -z "$python" ]; then
    python=python3
    /usr/bin/python3 -c 'import sys; sys.exit(sys.version_info < (3, 10))' 2>/dev/null && python=/usr/bin/python3
fi
extras=compiler,symbols
[ "${1:-}" = test ] && extras=compiler,symbols,test

fail() {
    echo "setup: $*" >&2
    exit 1
}

# Run quietly; show what it said only if it fails.
quietly() {
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        cat "$log" >&2
        rm -f "$log"
        return 1
    fi
    rm -f "$log"
}

apt() {
    command -v apt-get >/dev/null || fail "this needs $*, and there is no apt-get: install it by your system's means"
    [ "$(id -u)" = 0 ] || fail "this needs $*: run 'sudo apt-get install $*', or this script with sudo"
    quietly apt-get update -qq || true
    quietly env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" ||
        fail "apt-get could not install $*"
}

command -v "$python" >/dev/null || apt python3
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' || fail "Python 3.10 or later is needed"

# A .venv whose Python has gone (an upgrade of the system) is made anew.
if ! .venv/bin/python -c 'import pip' >/dev/null 2>&1; then
    rm -rf .venv
    if ! "$python" -m venv .venv >/dev/null 2>&1; then
        rm -rf .venv
        apt python3-venv
        quietly "$python" -m venv .venv || fail "cannot make a virtual environment"
    fi
fi

rm -rf build
quietly .venv/bin/python -m pip install --quiet --disable-pip-version-check --upgrade ".[$extras]" ||
    fail "pip could not install osmia"
rm -rf build
# setuptools' start-up hook costs 2 ms of every start; nothing here needs it once osmia is built.
if ls .venv/lib/python*/site-packages/distutils-precedence.pth >/dev/null 2>&1; then
    quietly .venv/bin/python -m pip uninstall --quiet --yes --disable-pip-version-check setuptools || true
fi
# With PYTHONDONTWRITEBYTECODE set, osmia would be compiled by Python at every start.
.venv/bin/python -m compileall -q .venv/lib/python*/site-packages/osmia
# All modules in one file, and a command that uses it: three milliseconds of every start.
(cd / && "$OLDPWD/.venv/bin/python" -m osmia.packed "$OLDPWD/.venv/bin/osmia")
echo "setup: done; try: sudo .venv/bin/osmia opensnoop"
