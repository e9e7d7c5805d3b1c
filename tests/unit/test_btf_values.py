# SPDX-License-Identifier: Apache-2.0
"""Bytes as values of C types."""

from __future__ import annotations

import struct

import pytest

from osmia.obj import btf_values, consts
from osmia.obj.btf import Btf
from osmia.obj.btf_write import BtfBuilder

SIGNED = 1  # BTF_INT_SIGNED, include/uapi/linux/btf.h
STRUCT = (consts.BTF_KIND_STRUCT,)


@pytest.fixture
def types() -> Btf:
    made = BtfBuilder()
    number, letter = made.add_int("int", 4, SIGNED), made.add_int("char", 1, SIGNED)
    long = made.add_int("long unsigned int", 8)
    state = made.add_enum("state", [("IDLE", 0), ("BUSY", 2)])
    inner = made.add_struct("inner", 8, [("a", number, 0), ("b", number, 32)])
    both = made.add_struct("", 4, [("number", number, 0), ("again", number, 0)], union=True)
    made.add_struct("outer", 56, [
        ("inner", inner, 0), ("", both, 64), ("state", state, 96), ("name", made.add_array(letter, 8), 128),
        ("next", made.add_ptr(inner), 192), ("list", made.add_array(number, 4), 256),
        ("size", made.add_typedef("size_t", long), 384),
    ])  # fmt: skip
    return Btf(made.bytes())


def test_a_structure(types: Btf) -> None:
    id = types.find("outer", STRUCT)
    data = struct.pack("<iiii8sQ4iQ", 5, 0, 7, 2, b"zebra\0\0\0", 0xFFFF888800001000, 0, 9, 0, 10, 0)
    assert btf_values.lines(types, id, data) == [
        "(struct outer){",
        " .inner = (struct inner){",
        "  .a = (int)0x5,",
        " },",
        " (union){",
        "  .number = (int)0x7,",
        "  .again = (int)0x7,",
        " },",
        " .state = (enum state)BUSY,",
        ' .name = (char[8])"zebra",',
        " .next = (struct inner *)0xffff888800001000,",
        " .list = (int[4])[",
        "  (int)0x9,",
        "  (int)0xa,",
        " ],",
        "}",
    ]


def test_what_is_beyond_the_bytes_is_said_to_be_missing(types: Btf) -> None:
    id = types.find("outer", STRUCT)
    assert btf_values.lines(types, id, struct.pack("<ii", 1, 2)) == [
        "(struct outer){", " .inner = (struct inner){", "  .a = (int)0x1,", "  .b = (int)0x2,", " },", " ...", "}",
    ]  # fmt: skip
    assert btf_values.lines(types, id, bytes(56)) == ["(struct outer){", "}"]


def test_single_values(types: Btf) -> None:
    number = types.find("int", (consts.BTF_KIND_INT,))
    assert btf_values.lines(types, number, struct.pack("<q", -1)) == ["(int)0xffffffff"]
    letter = types.find("char", (consts.BTF_KIND_INT,))
    assert btf_values.lines(types, letter, b"z") == ["(char)'z'"]
    assert btf_values.lines(types, letter, b"\1") == ["(char)0x1"]
    size = types.find("size_t", (consts.BTF_KIND_TYPEDEF,))
    assert btf_values.lines(types, size, struct.pack("<Q", 4096)) == ["(size_t)0x1000"]
