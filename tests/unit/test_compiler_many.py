# SPDX-License-Identifier: Apache-2.0
"""What is known of a function's syntax tree belongs to that tree, and not to the place in memory where it lay."""

from __future__ import annotations

from osmia.compiler import syntax as ast
from osmia.compiler.builder import Builder
from osmia.compiler.ktypes import Kernel
from osmia.lang.unit import Unit


def test_trees_that_are_known_are_kept() -> None:
    module = Builder(Unit("x", {}), Kernel(None))
    tree = ast.parse("def f(): pass", "f").body[0]
    module.checked[tree] = {"f"}, set()
    number = id(tree)
    del tree
    assert all(id(ast.parse("def g(): pass", "g").body[0]) != number for _ in range(1000))
