# SPDX-License-Identifier: Apache-2.0
"""Specs become live here: maps, programs, and what the verifier said.

Everything that depends on the running kernel happens at this point and not
before.  :func:`osmia.load.object.load` is the way in.
"""
