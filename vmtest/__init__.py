# SPDX-License-Identifier: Apache-2.0
"""The kernel matrix: Debian's kernels from 5.10 to 7.2, each booted once, with the marked tests run inside.

``python3 -m vmtest`` does it all; ``python3 -m vmtest --help`` says the rest.
"""
