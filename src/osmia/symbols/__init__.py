# SPDX-License-Identifier: Apache-2.0
"""Names in user programs and in the kernel: which file, where in it, which function covers an address, who called it.

Files are only read.
"""
