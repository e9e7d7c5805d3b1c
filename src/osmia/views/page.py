# SPDX-License-Identifier: Apache-2.0
"""What SVG and HTML pictures share: escaping, scripts and styles, the page around them.

A picture is one file that needs nothing else: no network, no fonts, no
library.  Names in it come from the traced world and whoever opens it trusts
us, so every name goes through :func:`text`, data for scripts through
:func:`data`, and a page allows no script but its own (by its hash, in a
content security policy).
"""

from __future__ import annotations

import os

from osmia.views.escape import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_DATA = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data")
_MARKUP = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"})
_SCRIPT = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})


def text(name: str) -> str:
    """``name`` for element content or a quoted attribute, in HTML as in XML: printable, and no markup."""
    return escape(name).translate(_MARKUP)


def data(value: Any) -> str:
    """``value`` as JSON that cannot end the ``<script>`` element it stands in."""
    import json

    return json.dumps(value, separators=(",", ":")).translate(_SCRIPT)


def asset(name: str) -> str:
    """The text of a script or style of ours, ``data/NAME``."""
    with open(os.path.join(_DATA, name), encoding="utf-8") as file:
        return file.read()


def svg_script(*names: str) -> str:
    """A ``<script>`` element for an SVG file."""
    code = "\n".join(map(asset, names))
    if "]]>" in code:
        raise ValueError("a script in an SVG file cannot contain the end of a CDATA section")
    return f"<script><![CDATA[\n{code}]]></script>\n"


def html(title: str, body: str, *, scripts: tuple[str, ...] = (), values: Any = None) -> str:
    """A whole page: ``body`` is markup, ``scripts`` name assets, which find ``values`` as ``osmia-data``."""
    code = "\n" + "\n".join(map(asset, scripts))
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src '{_hash(code)}'"
    parts = [
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
        '<meta name="viewport" content="width=device-width">\n',
        f"<title>{text(title)}</title>\n<style>\n{asset('page.css')}</style>\n</head>\n<body>\n{body}",
    ]
    if values is not None:
        parts.append(f'<script type="application/json" id="osmia-data">{data(values)}</script>\n')
    if scripts:
        parts.append(f"<script>{code}</script>\n")
    parts.append("</body>\n</html>\n")
    return "".join(parts)


def _hash(code: str) -> str:
    import base64
    import hashlib

    return "sha256-" + base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()


def percent(part: int, whole: int) -> str:
    """``12.34 %``; with a few more digits where it would be zero and is not."""
    if not whole:
        return "0 %"
    share = 100 * part / whole
    return f"{share:.2f} %" if not part or share >= 0.01 else f"{share:.2g} %"
