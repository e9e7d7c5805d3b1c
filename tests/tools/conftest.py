# SPDX-License-Identifier: Apache-2.0
"""The tests of the tools import their helpers by plain name."""

from __future__ import annotations

import os
import sys

sys.path.insert(0, os.path.dirname(__file__))
