# SPDX-License-Identifier: Apache-2.0
"""Which files are opened through vfs_open()?  The same function serves fentry and kprobe."""

from osmia import current, fentry, first_of, kernel_str, kprobe, run


@first_of(fentry("vfs_open"), kprobe("vfs_open"))
def opened(path, file):
    print(f"{current.comm} (PID {current.tgid}) opens {kernel_str(path.dentry.d_name.name)}")


run()
