# SPDX-License-Identifier: Apache-2.0
"""Time-outs for machines that are slow: an emulated processor takes some fifteen times as long.

Only times are stretched: how long a test waits, and bounds on how long
something may take; never what is counted.
"""

from __future__ import annotations

import os

PATIENCE = float(os.environ.get("OSMIA_TEST_PATIENCE", "1"))


def patient(seconds: float) -> float:
    """``seconds`` as long as this machine needs."""
    return seconds * PATIENCE
