# SPDX-License-Identifier: Apache-2.0
"""The one door to Linux: system calls, tracefs, BTF sources, feature probes.

Everything above this folder is told facts by it and asks it to act; nothing
above it makes a system call of its own.  That is what lets the unit tests run
every error path with no kernel: :func:`osmia.kernel.bpf.override`.
"""
