# SPDX-License-Identifier: Apache-2.0
"""Options of the tools whose table is shown page by page, as ``top`` does."""

from __future__ import annotations

from osmia.lang.options import option

noclear = option("-C", "--noclear", help="do not clear the screen before each page")
maxrows = option("-r", "--maxrows", type=int, default=20, metavar="ROWS", help="rows of a page (default 20)")
