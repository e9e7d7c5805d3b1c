# SPDX-License-Identifier: Apache-2.0
"""What the running kernel's verifier says is understood, and points at the line that is to blame."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Callable

import pytest
from needs import older_than

from osmia.errors import VerifierError
from osmia.load.object import load
from osmia.obj.spec import ObjectSpec

pytestmark = [pytest.mark.kernel, pytest.mark.usefixtures("no_fd_leak")]
SOURCE = pathlib.Path(__file__).resolve().parent.parent / "fixtures" / "live" / "bad.c"
LOGS = SOURCE.parent.parent / "verifier"

#: program -> what the error must say; the unit tests check the same on the stored logs
EXPECTED = {
    "null_value": "a value that may be absent",
    "null_record": "a value that may be absent",
    "scalar_address": "a plain number is used as an address",
    "unknown_helper": "helper number 9999 is not known",
    "wrong_helper": "helper bpf_redirect is not allowed",
    "leaked_record": "is not released on every path",
    "endless": "a loop without a visible end",
    "too_long": "too complex",
    "lost_field": "this kernel has no task_struct.no_such_member",
    "modified_ctx": "a context field is reached by a computed address",
    "computed_ctx": "the context is indexed by a value",
    "beyond_ctx": "8 bytes at offset 4800 of the context",
    "beyond_value": "8 bytes at offset 8 of a map value that has 8 bytes",
    "unbounded_index": "an index into map_value that has no bounds",
    "unbounded_length": "a length or index that may be negative",
    "written_option": "a write to a constant",
    "beyond_stack": "stack access at offset -520 is out of bounds",
    "deep_stack": "bytes of stack in 2 nested functions",
    "unset": "a value is used that was never set",
    "wrong_map": "a helper is given no memory",
}


#: Programs that newer verifiers have nothing against, and a kernel that takes them.
TAKEN = {"modified_ctx": "7.2"}


@pytest.mark.parametrize("name", EXPECTED)
def test_rejections(name: str, live_spec: Callable[[str], ObjectSpec]) -> None:
    if name in TAKEN and not older_than(TAKEN[name]):
        load(live_spec("bad"), only=[name]).close()
        return
    with pytest.raises(VerifierError) as caught:
        load(live_spec("bad"), only=[name])
    error = caught.value
    expected = EXPECTED[name]
    if name == "wrong_helper" and "unknown func" in error.what:  # before 6.14 the kernel made no difference
        expected = "helper bpf_redirect (number 23) is not known here"
    assert expected in error.what and f"program {name}" in error.what
    marked = [i for i, line in enumerate(SOURCE.read_text().splitlines(), 1) if f"here: {name} " in line]
    if marked:
        assert f"bad.c:{marked[0]}: " in error.where and f"here: {name}" in error.where
    assert "bad.c:" in error.where
    assert len(str(error).splitlines()) == 1 and error.log
    if os.environ.get("OSMIA_WRITE_LOGS"):
        lines = error.log.splitlines(keepends=True)
        LOGS.mkdir(exist_ok=True)
        (LOGS / f"{name}.log").write_text("".join(lines if len(lines) < 60 else lines[:5] + lines[-40:]))
