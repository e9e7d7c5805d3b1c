#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what `python3 -m vmtest` needs: qemu and its friends from Debian, virtme-ng and the tests' packages into .venv.
set -eu
cd "$(dirname "$0")/.."
[ "$(id -u)" = 0 ] || {
    echo "setup: installing packages needs root: sudo sh vmtest/setup.sh" >&2
    exit 1
}
command -v apt-get >/dev/null || {
    echo "setup: there is no apt-get here: install qemu-system-x86, kmod, busybox-static, zstd, xz-utils yourself" >&2
    exit 1
}
apt-get update -qq
DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
    qemu-system-x86 kmod busybox-static zstd xz-utils gcc libc6-dev clang bpftool
./setup.sh test
.venv/bin/python -m pip install --quiet --disable-pip-version-check 'virtme-ng>=1.30'
echo "setup: done; try: python3 -m vmtest --kernel 6.1"
