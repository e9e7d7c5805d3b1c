# SPDX-License-Identifier: Apache-2.0
"""The tools: one file each, found by its name.  Files with a leading underscore are shared parts."""
