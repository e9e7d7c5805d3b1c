#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# In a guest of `python3 -m vmtest --exec`: makes a root of peers.sh, which the guest sees read-only and slowly, fit for
# use, then runs a command.
#   python3 -m vmtest --kernel 6.12 --memory 6G --exec \
#       'benchmarks/in_guest.sh DIR benchmarks/run.py --only start --bcc --peers DIR'
# The guest would see the mounts of its host in DIR, so its own go over them.  What bcc loads, and the headers that it
# reads, go into memory, so that it is not the guest's disk that is measured.
set -eu
root=$1
shift
for name in proc sys dev; do
    mount --rbind "/$name" "$root/$name"
done
mountpoint -q "$root/tmp" || mount -t tmpfs tmpfs "$root/tmp"
kept=$(mktemp -d)
for path in "$root"/usr/lib/x86_64-linux-gnu/libLLVM.so.* "$root"/usr/lib/x86_64-linux-gnu/libclang*.so.* \
    "$root"/usr/lib/x86_64-linux-gnu/libbcc.so.*; do
    [ -f "$path" ] && [ ! -L "$path" ] || continue
    cp "$path" "$kept"
    mount --bind "$kept/${path##*/}" "$path"
done
for path in "$root"/usr/src/linux-headers-*/include "$root"/usr/src/linux-headers-*/arch/x86/include; do
    [ -d "$path" ] || continue
    copy=$(mktemp -d -p "$kept")
    tar -C "$path" -cf - . | tar -C "$copy" -xf -
    mount --bind "$copy" "$path"
done
exec "$@"
