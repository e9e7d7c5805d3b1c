# SPDX-License-Identifier: Apache-2.0
"""Make a failing program small: statements and other functions are taken out while it still fails."""

from __future__ import annotations

import ast
import copy
from collections.abc import Callable, Iterator


def _blocks(tree: ast.AST) -> Iterator[list[ast.stmt]]:
    for node in ast.walk(tree):
        for name in ("body", "orelse"):
            block = getattr(node, name, None)
            if isinstance(block, list) and block and isinstance(block[0], ast.stmt):
                yield block


def _without(tree: ast.Module, number: int) -> ast.Module | None:
    """``tree`` without its ``number``-th statement; None past the last one."""
    made = copy.deepcopy(tree)
    for block in _blocks(made):
        if number < len(block):
            gone = block.pop(number)
            inner = getattr(gone, "body", None)
            if isinstance(gone, (ast.If, ast.For, ast.While)) and inner is not None and number % 2:
                block[number:number] = inner  # its body in its place
            if not block:
                block.append(ast.Pass())
            return made
        number -= len(block)
    return None


def reduce(text: str, fails: Callable[[str], bool], attempts: int = 150) -> str:
    """A smaller text for which ``fails`` is still true."""
    tree, number = ast.parse(text), 0
    for _ in range(attempts):
        smaller = _without(tree, number)
        if smaller is None:
            break
        if fails(ast.unparse(smaller)):
            tree = smaller
        else:
            number += 1
    return ast.unparse(tree) + "\n"
