# SPDX-License-Identifier: Apache-2.0
"""Names in user programs: which file, where in it, what static probes it has.  Files are only read."""
