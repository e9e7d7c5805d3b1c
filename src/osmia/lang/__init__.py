# SPDX-License-Identifier: Apache-2.0
"""What authors of kernel code write with.  Touches no machine and needs no Linux."""
