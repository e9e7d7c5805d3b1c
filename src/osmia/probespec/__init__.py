# SPDX-License-Identifier: Apache-2.0
"""The one parser of what people type to say where to attach: ``p::vfs_read``, ``c:malloc``, ``t:sched:*``."""

from __future__ import annotations

from osmia.probespec.spec import ENTRIES, FUNCTION, STATIC, TRACEPOINT, USER, WITH_RETURNS, Spec, parse

__all__ = ["ENTRIES", "FUNCTION", "STATIC", "TRACEPOINT", "USER", "WITH_RETURNS", "Spec", "parse"]
