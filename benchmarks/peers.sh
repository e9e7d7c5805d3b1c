#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds a Debian trixie root with the tools that osmia is measured against.  Run again, it only completes what is
# missing, so it is also how the mounts come back after a reboot.
#   sudo benchmarks/peers.sh DIR [RELEASE]
# With the release of a kernel of trixie's (6.12.118+deb13-amd64) also bcc and the headers that it compiles against, for
# measurements in a guest with that kernel: see in_guest.sh.
# Undo with: umount -R DIR/proc DIR/sys DIR/dev && rm -r --one-file-system DIR
set -eu

suite=trixie
packages="bpftrace libbpf-tools bpftool linux-perf"

fail() {
    echo "peers: $*" >&2
    exit 1
}

[ $# = 1 ] || [ $# = 2 ] || fail "usage: peers.sh DIR [RELEASE]"
[ "$(id -u)" = 0 ] || fail "making a root needs root: sudo benchmarks/peers.sh $1"
mkdir -p "$1"
root=$(cd "$1" && pwd)

[ $# = 1 ] || packages="$packages bpfcc-tools linux-headers-$2"

# The mirror of an archive, debian or debian-security, that this machine itself uses: it is the one that can be reached.
mirror() {
    for file in /etc/apt/sources.list.d/debian.sources /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ -r "$file" ] || continue
        found=$(sed -nE -e 's/^URIs:[[:space:]]+([^[:space:]]+).*/\1/p' \
            -e 's/^deb[[:space:]]+(\[[^]]*\][[:space:]]+)?([^[:space:]]+).*/\2/p' "$file" | grep -m1 "/$1/*\$" || true)
        if [ -n "$found" ]; then
            echo "$found"
            return
        fi
    done
    echo "http://deb.debian.org/$1"
}

mounts() {
    for name in proc sys dev; do
        mountpoint -q "$root/$name" && continue
        mount --rbind "/$name" "$root/$name"
        mount --make-rslave "$root/$name" # so that unmounting here leaves the machine's own alone
    done
}

# A package may be there half: what counts is that dpkg calls it installed.
installed() {
    for package in $packages; do
        chroot "$root" dpkg-query -W -f '${db:Status-Status}\n' "$package" 2>/dev/null | grep -qx installed || return 1
    done
}

if [ ! -e "$root/var/lib/dpkg/status" ] || [ -d "$root/debootstrap" ]; then
    command -v debootstrap >/dev/null || {
        apt-get update -qq >/dev/null
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >/dev/null
    }
    debootstrap --variant=minbase "$suite" "$root" "$(mirror debian)" >&2
fi
mounts
if ! installed; then
    cp /etc/resolv.conf "$root/etc/resolv.conf"
    echo "deb $(mirror debian-security) $suite-security main" >"$root/etc/apt/sources.list.d/security.list"
    chroot "$root" apt-get update -qq >&2
    # shellcheck disable=SC2086 # words are wanted
    DEBIAN_FRONTEND=noninteractive chroot "$root" apt-get install -y -qq --no-install-recommends $packages >&2
fi
installed || fail "the packages $packages are not all there"
echo "peers: ready; now: sudo benchmarks/run.py --peers $root"
