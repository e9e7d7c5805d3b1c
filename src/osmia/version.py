# SPDX-License-Identifier: Apache-2.0
"""The version, alone in a module so that nothing else need be imported for it."""

__version__ = "0.1.0"
