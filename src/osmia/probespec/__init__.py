# SPDX-License-Identifier: Apache-2.0
"""The one parser of what people type to say where to attach: ``p::vfs_read``, ``c:malloc``, ``t:sched:*``."""

from __future__ import annotations

from osmia.probespec.spec import FUNCTION, STATIC, TRACEPOINT, USER, Spec, parse

__all__ = ["FUNCTION", "STATIC", "TRACEPOINT", "USER", "Spec", "parse"]
