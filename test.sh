#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Sets everything up and runs all checks and tests, as root because most of them trace this kernel.
#   sudo ./test.sh [arguments for pytest]
#   sudo OSMIA_VMTEST=1 ./test.sh       afterwards the kernels of the matrix, too, in virtual machines (an hour and more)
set -eu
cd "$(dirname "$0")"
[ "$(id -u)" = 0 ] || {
    echo "test: tracing needs root: sudo ./test.sh" >&2
    exit 1
}

# install PACKAGE: quietly; whether it worked is seen by what it brings.
install() {
    command -v apt-get >/dev/null || return 0
    [ -n "${updated:-}" ] || apt-get update -qq >/dev/null 2>&1 || true
    updated=1
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >/dev/null 2>&1 || true
}

# need COMMAND PACKAGE...: the first package that can be had brings the command.
need() {
    command=$1
    shift
    command -v "$command" >/dev/null && return
    for package in "$@"; do
        install "$package"
        command -v "$command" >/dev/null && return
    done
    echo "test: the command $command is needed (Debian: package $1)" >&2
    exit 1
}

PATH=$PATH:/usr/sbin:/sbin
export PATH
./setup.sh test >/dev/null
need gcc gcc
[ -e /usr/include/stdio.h ] || install libc6-dev
command -v clang >/dev/null || ls /usr/bin/clang-[0-9]* >/dev/null 2>&1 || need clang clang
need bpftool bpftool linux-tools-common
need setpriv util-linux
need losetup util-linux mount
need swapon util-linux mount
need mkfs.ext4 e2fsprogs
need mkfs.xfs xfsprogs
need mkfs.btrfs btrfs-progs
need mkfs.f2fs f2fs-tools
need ip iproute2
need objcopy binutils
has_sdt() { echo '#include <sys/sdt.h>' | gcc -E - >/dev/null 2>&1; }
has_sdt || install systemtap-sdt-dev
has_sdt || {
    echo "test: sys/sdt.h is needed (Debian: package systemtap-sdt-dev)" >&2
    exit 1
}
# The pictures are tested in a browser without a screen (11 s to install on two cores); any Chromium will do.
has_browser() {
    for browser in chromium-headless-shell chromium chromium-browser google-chrome; do
        command -v $browser >/dev/null && return
    done
    return 1
}
has_browser || install chromium-headless-shell
has_browser || install chromium
has_browser || {
    echo "test: a Chromium is needed to test pictures (Debian: package chromium-headless-shell)" >&2
    exit 1
}
[ -d /sys/kernel/tracing/events ] || mount -t tracefs tracefs /sys/kernel/tracing
mountpoint -q /sys/fs/bpf || mount -t bpf bpf /sys/fs/bpf

bin=$PWD/.venv/bin
# The tests run against this tree, not against what is installed.
PYTHONPATH=$PWD/src
export PYTHONPATH
"$bin/ruff" check --quiet .
"$bin/mypy" --no-error-summary
"$bin/lint-imports" --no-cache >/tmp/osmia-imports.$$ || {
    cat /tmp/osmia-imports.$$
    exit 1
}
rm -f /tmp/osmia-imports.$$
"$bin/python" scripts/gen_consts.py --check
"$bin/python" scripts/gen_types.py --check
"$bin/python" scripts/gen_man.py --check
"$bin/python" scripts/gen_reference.py --check
"$bin/python" scripts/gen_features.py --check
"$bin/python" -m pytest -q -p no:cacheprovider "$@"
[ "${OSMIA_VMTEST:-0}" = 1 ] || exit 0
sh vmtest/setup.sh
exec "$bin/python" -m vmtest --jobs "$(($(nproc) > 4 ? 4 : $(nproc)))"
