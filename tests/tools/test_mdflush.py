# SPDX-License-Identifier: Apache-2.0
"""mdflush: with -a on a loop device; where there is md, also on an array of its own."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from disks import apart, direct, flush
from harness import Tool, eventually, osmia
from needs import skip_unbuilt

pytestmark = pytest.mark.kernel

FLUSHES = 17
COMM = Path("/proc/self/comm").read_text().strip()
NEW_ARRAY = Path("/sys/module/md_mod/parameters/new_array")


@contextmanager
def array(member: str) -> Iterator[str]:
    """The name of an md device over one disk, without anything of md's on that disk."""
    NEW_ARRAY.write_text("md117")
    place = Path("/sys/block/md117/md")
    assert eventually(place.exists)
    number = Path(f"/sys/block/{member}/dev").read_text().strip()
    size = str(int(Path(f"/sys/block/{member}/size").read_text()) // 2)
    try:
        for file, word in (("metadata_version", "none"), ("level", "raid1"), ("raid_disks", "1"), ("new_dev", number),
                           (f"dev-{member}/size", size), (f"dev-{member}/slot", "0"), ("component_size", size),
                           ("array_state", "active")):  # fmt: skip
            (place / file).write_text(word)
        assert eventually(Path("/dev/md117").exists)
        yield "md117"
    finally:
        with suppress(OSError):
            (place / "array_state").write_text("clear")


@pytest.mark.feature("B13 tools")
def test_flushes_of_any_device(loop: str) -> None:
    """Each fdatasync of a device is a flush; reads and writes are none."""
    tool = Tool("mdflush", "-a", "--json", "-p", str(os.getpid())).start()
    direct(loop, apart(31))
    direct(loop, apart(31), write=True)
    for _ in range(FLUSHES):
        flush(loop)
    tool.stop()
    found = [event for event in tool.records() if event.get("device") == loop]
    assert tool.status == 0 and len(found) == FLUSHES, tool.stderr
    assert {(event["pid"], event["comm"], event["bytes"]) for event in found} == {(os.getpid(), COMM, 0)}


def test_the_table(loop: str) -> None:
    tool = Tool("mdflush", "-a", "-p", str(os.getpid())).start()
    flush(loop)
    tool.stop()
    banner, head, *rows = tool.stdout.splitlines()
    assert banner == "Tracing flush requests... Hit Ctrl-C to end."
    assert head.split() == ["TIME", "PID", "COMM", "DEVICE"]
    (row,) = [row for row in rows if row.endswith(f" {loop}")]
    assert re.fullmatch(rf"\d\d:\d\d:\d\d {os.getpid()} +{re.escape(COMM)} +{loop}", row)


def test_other_devices_are_left_out(loop: str) -> None:
    tool = Tool("mdflush").start()
    flush(loop)
    tool.stop()
    assert tool.stdout.splitlines()[0] == "Tracing md flush requests... Hit Ctrl-C to end."
    assert loop not in tool.stdout


@pytest.mark.parametrize(
    ("words", "seen"), [(["--uid", "0"], True), (["-n", "nobody-has-this"], False), (["-p", "1"], False)]
)
def test_filters(loop: str, words: list[str], seen: bool) -> None:
    tool = Tool("mdflush", "-a", "--json", *words).start()
    flush(loop)
    tool.stop()
    assert any(event.get("device") == loop for event in tool.records()) == seen


def test_an_array(loop: str) -> None:
    """The array is asked by us, and asks its disk by itself, which is not shown."""
    subprocess.run(["modprobe", "-aq", "md_mod", "raid1"], check=False)
    if not NEW_ARRAY.exists():
        skip_unbuilt("BLK_DEV_MD", "md_mod", "a kernel without md")
    with array(loop) as name:
        tool = Tool("mdflush", "--json").start()
        for _ in range(FLUSHES):
            flush(name)
        time.sleep(0.2)
        tool.stop()
    found = [event for event in tool.records() if "device" in event]
    assert len([event for event in found if event["pid"] == os.getpid()]) == FLUSHES
    assert {event["device"] for event in found} == {name}


def test_csv_and_a_duration() -> None:
    run = osmia("mdflush", "--csv", "-d", "0.2")
    assert run.returncode == 0 and run.stdout.splitlines()[0] == "TIME,PID,COMM,DEVICE"


@pytest.mark.anywhere
def test_wrong_options_are_one_sentence() -> None:
    run = osmia("mdflush", "md0")
    assert run.returncode == 2 and run.stdout == "" and "md0" in run.stderr and len(run.stderr.splitlines()) == 1
