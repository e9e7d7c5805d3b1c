# SPDX-License-Identifier: Apache-2.0
"""The writer: every byte arrives, a gone reader is no fault, a refusal is one clear sentence."""

from __future__ import annotations

import errno
import io
import os
import threading
from pathlib import Path

import pytest

from osmia.errors import OsmiaError, UserError
from osmia.views.output import ClosedPipe, Writer, open_output


def drain(fd: int, into: list[bytes]) -> None:
    while chunk := os.read(fd, 65536):
        into.append(chunk)


@pytest.mark.parametrize("blocking", [True, False])
def test_a_block_larger_than_the_pipe_arrives_whole(blocking: bool) -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, blocking)
    got: list[bytes] = []
    reader = threading.Thread(target=drain, args=(reading, got))
    reader.start()
    text = "".join(f"{number:09d}\n" for number in range(100_000))
    try:
        writer = Writer(writing)
        writer.write(text)
        writer.write("")
    finally:
        os.close(writing)
        reader.join(timeout=20)
        os.close(reading)
    assert b"".join(got) == text.encode()
    assert writer.written == len(text)


def test_partial_writes_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    got = bytearray()

    def seven(fd: int, data: bytes) -> int:
        got.extend(bytes(data[:7]))
        return min(len(data), 7)

    monkeypatch.setattr(os, "write", seven)
    Writer(99).write("größe " * 10)
    assert got.decode() == "größe " * 10


def test_a_reader_that_has_gone() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with pytest.raises(ClosedPipe) as caught:
            Writer(writing).write("x")
    finally:
        os.close(writing)
    assert isinstance(caught.value, OsmiaError)
    assert not isinstance(caught.value, UserError)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_a_full_disk_is_one_sentence() -> None:
    writer = open_output("/dev/full")
    with pytest.raises(UserError) as caught:
        writer.write("x")
    writer.close()
    reason = os.strerror(errno.ENOSPC)
    assert str(caught.value) == (
        f"/dev/full: cannot write: {reason}; free some space or choose another file with -o"
    )


def test_file_is_emptied_and_written(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("old and longer")
    writer = open_output(str(path))
    writer.write("new\udcff\n")
    writer.close()
    writer.close()
    assert path.read_bytes() == b"new\\udcff\n"
    assert writer.name == str(path)


@pytest.mark.parametrize("name", ["missing/out", "", "nul\0"])
def test_a_file_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    path = os.path.join(str(tmp_path), name)  # the empty name gives the folder itself
    with pytest.raises(UserError, match="cannot open the output file: ") as caught:
        open_output(path)
    assert str(caught.value).startswith(f"-o {tmp_path}")
    assert "\0" not in str(caught.value)
    assert caught.value.fix


def test_streams(tmp_path: Path) -> None:
    memory = io.StringIO()
    Writer(memory).write("text")
    assert memory.getvalue() == "text"
    with (tmp_path / "f").open("w") as stream:
        stream.write("first ")  # still in the buffer of the stream
        writer = Writer(stream)
        writer.write("second")
        writer.close()  # not ours: stays open
        assert writer.fd == stream.fileno()
    assert (tmp_path / "f").read_text() == "first second"


def test_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    open_output("-").write("to stdout\n")
    assert capfd.readouterr().out == "to stdout\n"
    assert Writer().name == "standard output"
