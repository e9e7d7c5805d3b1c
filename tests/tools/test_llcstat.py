# SPDX-License-Identifier: Apache-2.0
"""llcstat with software events in place of the cache's, which virtual machines have not; and the refusal there.

A page that is written to for the first time is a fault, and a minor one: so
where the one stands for a reference and the other for a miss, nothing hits.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import REPO, Told, Tool, osmia

from osmia import machine
from osmia.kernel import perf_names
from osmia.tools import llcstat

PAGES = 1009
#: A process that writes to some pages for the first time, in its second thread.
TOUCH = """
import mmap, sys, threading
open('/proc/self/comm', 'w').write('toucher')
def touch(number):
    area = mmap.mmap(-1, number * mmap.PAGESIZE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # 5.10: others are major
    getattr(area, 'madvise', lambda _: None)(15)  # MADV_NOHUGEPAGE
    for page in range(number):
        area[page * mmap.PAGESIZE] = 1
    area.close()
for line in sys.stdin:
    thread = threading.Thread(target=touch, args=(int(line),))
    thread.start()
    thread.join()
    print('done', flush=True)
"""
ROW = re.compile(r"^(\d+) +(?:(\d+) +)?(\S.*?) +(\d+) +(\d+) +(\d+) +([\d.]+)%$")


@pytest.fixture
def soft(tmp_path: Path) -> str:
    """The tool as a file, for page faults."""
    return with_events(tmp_path, "page-faults", "minor-faults")


def with_events(folder: Path, reference: str, miss: str) -> str:
    text = (REPO / "src" / "osmia" / "tools" / "llcstat.py").read_text()
    assert text.count('"cache-references"') == text.count('"cache-misses"') == 1
    path = folder / f"soft_{miss.replace('-', '_')}.py"
    path.write_text(text.replace("cache-references", reference).replace("cache-misses", miss))
    return str(path)


def has_counters() -> bool:
    done = osmia("llcstat", "0.2")
    return done.returncode == 0


@pytest.mark.kernel
def test_a_known_number_of_events(soft: str) -> None:
    """Each is counted, and whose it is; with a period in multiples of that."""
    with Told(sys.executable, "-c", TOUCH) as toucher:
        toucher.tell("1")
        tools = [Tool("run", soft, "60", "-c", str(period), "-p", toucher.pid).start() for period in (1, 10)]
        toucher.tell(str(PAGES))
        for tool in tools:
            tool.stop()
            assert tool.status == 0 and tool.stderr == ""
    every, some = [sums(tool) for tool in tools]
    assert every["ref"] == every["miss"] and PAGES <= every["ref"] < PAGES + 400
    assert some["ref"] % 10 == 0 and PAGES - 20 * len(os.sched_getaffinity(0)) <= some["ref"] <= every["ref"] + 20
    assert tools[0].stdout.splitlines()[-1] == (
        f"Total References: {every['ref']} Total Misses: {every['miss']} Hit Rate: 0.00%"
    )


def sums(tool: Tool) -> dict[str, int]:
    """Of all rows, which have the form that they should have, and are the process's."""
    _, head, *lines, _ = tool.stdout.splitlines()
    assert head == "PID      NAME             CPU     REFERENCE         MISS    HIT%"
    rows = [ROW.match(line) for line in lines]
    assert rows and all(rows), tool.stdout
    assert {row[3] for row in rows if row} == {"toucher"}
    assert len({row[1] for row in rows if row}) == 1
    return {"ref": sum(int(row[5]) for row in rows if row), "miss": sum(int(row[6]) for row in rows if row)}


@pytest.mark.kernel
def test_by_thread_and_what_hits(tmp_path: Path) -> None:
    """-t: the thread that touched the pages apart; major faults there are none, so that everything hits."""
    soft = with_events(tmp_path, "page-faults", "major-faults")
    with Told(sys.executable, "-c", TOUCH) as toucher:
        toucher.tell("1")
        table = Tool("run", soft, "60", "-c", "1", "-t", "-p", toucher.pid).start()
        records = Tool("run", soft, "60", "-c", "1", "-t", "-p", toucher.pid, "--json").start()
        toucher.tell(str(PAGES))
        table.stop()
        records.stop()
    assert table.stdout.splitlines()[1] == "PID      TID      NAME             CPU     REFERENCE         MISS    HIT%"
    rows = json.loads(records.stdout.splitlines()[0])["rows"]
    by_thread: dict[int, int] = {}
    for row in rows:
        assert (row["pid"], row["miss"], row["hit"]) == (int(toucher.pid), 0, 100.0)
        by_thread[row["tid"]] = by_thread.get(row["tid"], 0) + row["ref"]
    others = {tid: n for tid, n in by_thread.items() if tid != int(toucher.pid)}
    assert PAGES <= max(others.values()) < PAGES + 200
    assert [row["ref"] for row in rows] == sorted((row["ref"] for row in rows), reverse=True)


@pytest.mark.kernel
def test_other_processes_are_left_out(soft: str) -> None:
    with Told(sys.executable, "-c", TOUCH) as toucher:
        toucher.tell("1")
        tool = Tool("run", soft, "60", "-c", "1", "-n", "no-such-name", "--csv").start()
        toucher.tell("101")
        tool.stop()
    assert tool.stdout == "PID,NAME,CPU,REFERENCE,MISS,HIT%\n"


@pytest.mark.kernel
def test_it_ends_by_itself(soft: str) -> None:
    assert osmia("run", soft, "0.3").returncode == 0
    done = osmia("run", soft, "-c", "1", "--cmd", f"{sys.executable} -c 'print(7)'")
    assert done.returncode == 0 and "Total References: " in done.stdout


@pytest.mark.kernel
def test_where_there_are_no_counters() -> None:
    """One sentence, and nothing that looks like a count."""
    if has_counters():
        pytest.skip("this machine has hardware counters")
    done = osmia("llcstat", "1")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "osmia: reference (cache-references): this machine has no such hardware counter; "
        "virtual machines often have none\n"
    )


@pytest.mark.anywhere
@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["-c", "0"], "option -c: '0' is not a whole number from 1"),
        (["x"], "duration: 'x' is not a number of seconds"),
        (["1", "2"], "unexpected argument '2'; see osmia llcstat --help"),
    ],
)
def test_mistakes(words: list[str], text: str) -> None:
    done = osmia("llcstat", *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"osmia: llcstat: {text}\n")


# --- the arithmetic -----------------------------------------------------------------------------------------------


def test_events_are_those_of_the_last_level_cache() -> None:
    """PERF_COUNT_HW_CACHE_REFERENCES and _MISSES, include/uapi/linux/perf_event.h."""
    assert (perf_names.find("cache-references"), perf_names.find("cache-misses")) == ((0, 2), (0, 3))


@pytest.fixture
def fresh() -> Iterator[None]:
    yield
    llcstat.counts.clear()
    llcstat.period.value, llcstat.threads.value = 100, False
    machine.tgid = machine.pid = machine.cpu = 0


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("threads", [False, True])
def test_samples_are_multiplied_by_the_period(threads: bool) -> None:
    llcstat.period.value, llcstat.threads.value = 5000, threads
    for cpu, tid in ((0, 181), (1, 182), (1, 182)):
        machine.tgid, machine.pid, machine.cpu, machine.comm = 181, tid, cpu, "mysqld"
        llcstat.reference(None)
    llcstat.miss(None)
    machine.pid, machine.cpu = 183, 0
    llcstat.miss(None)  # more misses than references, by chance
    found = {(k.pid, k.tid, k.cpu, k.comm): (one.ref, one.miss) for k, one in llcstat.counts.items()}
    first, second, third = (181, 182, 183) if threads else (0, 0, 0)
    expected = {(181, first, 0, "mysqld"): (5000, 0), (181, second, 1, "mysqld"): (10_000, 5000)}
    expected[181, third, 0, "mysqld"] = (0, 5000) if threads else (5000, 5000)
    assert found == expected


@pytest.mark.parametrize(
    ("ref", "miss", "percent"),
    [(3_515_000, 640_000, 81.79), (5000, 0, 100.0), (15_600, 22_400, 0.0), (0, 100, 0.0), (0, 0, 0.0)],
)
def test_hit_rate(ref: int, miss: int, percent: float) -> None:
    """bcc's own example: 3515000 references and 640000 misses are 81.79 %."""
    assert round(llcstat.rate(ref, miss), 2) == percent
