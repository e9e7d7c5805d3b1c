#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# First thing in the guest: unpack Python, the common programs and the tree into memory, then hand over to guest.py.
#   guest.sh SHARE REPO PYTHON JOB
set -eu
share=$1 repo=$2 python=$3 job=$4
PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
memory=/run/osmia-vm
mkdir -p $memory
mount -t tmpfs -o mode=755,size=1500m tmpfs $memory
mkdir $memory/python $memory/tree $memory/prebuilt $memory/tmp
tar -b 1024 -xf "$share"/python.tar -C $memory/python
tar -b 1024 -xf "$share"/tree.tar -C $memory/tree
tar -b 1024 -xf "$share"/prebuilt.tar -C $memory/prebuilt
# Tools run as a wheel brings them: to compile one takes seconds here.  What the compiler makes is tested by tests/kernel.
[ -e $memory/tree/src/osmia/data/objects ] ||
    ln -s $memory/prebuilt/installed/osmia/data/objects $memory/tree/src/osmia/data/objects
while read -r number place; do
    mount --bind "$memory/python/$number" "$place"
done <$memory/python/mounts
mount --bind $memory/tree "$repo"
# Tests run programs as users without privileges, who must get at Python even if it is in root's home.
case $python in
/root/*)
    mkdir $memory/root
    mount --rbind /root $memory/root
    mount -t tmpfs -o mode=755 tmpfs /root
    for place in $memory/root/* $memory/root/.[!.]*; do
        [ -d "$place" ] || continue
        mkdir "/root/${place##*/}"
        mount --rbind "$place" "/root/${place##*/}"
    done
    ;;
esac
mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing
mkdir -p /sys/fs/bpf
mount -t bpf bpf /sys/fs/bpf 2>/dev/null || true
cd "$repo"
exec "$python" -m vmtest.guest "$share" "$job"
