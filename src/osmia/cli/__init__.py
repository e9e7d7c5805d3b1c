# SPDX-License-Identifier: Apache-2.0
"""The ``osmia`` command: what people type, and the loops that run a tool."""
