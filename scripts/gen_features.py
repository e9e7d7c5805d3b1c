#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write docs/features.md: each feature, the tests that name it, and what they did on each kernel.

    gen_features.py            write the page
    gen_features.py --check    exit 1 if it is not what would be written, or if a row has no test
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from vmtest import features


def main(argv: list[str]) -> int:
    """The exit status."""
    if argv not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    wrong = features.problems(features.named())
    for problem in wrong:
        print(problem, file=sys.stderr)
    if not argv:
        features.write()
    elif not features.PAGE.is_file() or features.PAGE.read_text(encoding="utf-8") != features.text():
        print("docs/features.md is not current; run scripts/gen_features.py", file=sys.stderr)
        return 1
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
