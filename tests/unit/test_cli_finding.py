# SPDX-License-Identifier: Apache-2.0
"""``osmia list --for``: what people say, and which tools are about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from osmia.cli import catalog, commands, finding
from osmia.errors import NotFound, OptionError

TITLES = {
    "biolatency": "Summarize the latency of block device I/O as a histogram",
    "biosnoop": "Trace block device I/O with its latency",
    "ext4slower": "Trace slow operations of ext4",
    "opensnoop": "Trace open() system calls: who opens which file",
    "runqlat": "Summarize how long threads wait for their turn on a CPU",
    "runqslower": "Trace threads that wait long for a CPU",
    "tcpdrop": "Trace packets that the kernel drops",
    "tcpconnect": "Trace active TCP connections",
    "exitsnoop": "Trace the end of processes: their age, exit code or signal",
    "killsnoop": "Trace signals sent with the kill() system call",
    "hardirqs": "Summarize the time that interrupts of devices take, by handler",
}


@pytest.fixture
def few(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some tools with nothing but a title, so that what is found depends on nothing else."""
    for name, title in TITLES.items():
        (tmp_path / f"{name}.py").write_text(f'"""{title}."""\n')
    monkeypatch.setattr(catalog, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(finding, "_data", lambda kind, name: "")


@pytest.mark.parametrize(
    ("family", "other"),
    [
        ("slow slower slowest slowness slowly slows", "block"),
        ("kill kills killed killing killer", "sign"),
        ("stop stops stopped stopping", "step"),
        ("drop drops dropped dropping", "disk"),
        ("latency latencies", "lately"),
        ("process processes", "processor"),
        ("die dies died dying dead death", "disk"),
        ("write writes writing wrote written", "wait"),
        ("cache caches cached", "catch"),
        ("open opens opened opening opener", "operation"),
        ("run runs ran running", "rung"),
        ("query queries", "queue"),
        ("busy busiest", "bus"),
    ],
)
def test_forms_of_a_word_have_one_stem(family: str, other: str) -> None:
    stems = {finding.stem(word) for word in family.split()}
    assert len(stems) == 1 and finding.stem(other) not in stems


def test_what_says_nothing_is_left_out() -> None:
    assert finding.words("Why is the disk so slow?") == finding.words("disk, slow") == ["disk", "slow"]
    assert finding.words("block I/O of a file system") == finding.words("block io filesystem")
    assert finding.words("") == finding.words("what is it, and a 7") == []


def test_words_of_the_same_meaning_count_less() -> None:
    alike = finding.meanings("disk")
    assert alike["disk"] == 1.0 and 0 < alike["ssd"] == alike["io"] < 1
    assert finding.meanings("zebra") == {"zebra": 1.0}


@pytest.mark.usefixtures("few")
@pytest.mark.parametrize(
    ("asked", "first", "not_there"),
    [
        ("disk is slow", {"biolatency", "biosnoop"}, {"tcpdrop", "opensnoop", "killsnoop"}),
        ("slower SSDs", {"biolatency", "biosnoop"}, {"tcpdrop"}),
        ("slowness", {"ext4slower", "runqslower"}, {"killsnoop"}),
        ("who opens files", {"opensnoop"}, {"tcpconnect"}),
        ("what has killed my process", {"killsnoop", "exitsnoop"}, {"biosnoop"}),
        ("why did it die", {"exitsnoop"}, {"opensnoop"}),
        ("lost packets", {"tcpdrop"}, {"runqlat"}),
        ("waiting for the processor", {"runqlat", "runqslower"}, {"tcpdrop"}),
        ("connections", {"tcpconnect"}, {"hardirqs"}),
        ("irqs", {"hardirqs"}, {"opensnoop"}),
    ],
)
def test_what_is_asked_for_is_first(asked: str, first: set[str], not_there: set[str]) -> None:
    found = [name for name, _ in finding.find(asked)]
    assert set(found[: len(first)]) == first and not not_there & set(found)


@pytest.mark.usefixtures("few")
def test_more_of_the_words_is_better() -> None:
    """One that has both words is worth more than one that has one of them in its very name."""
    found = [name for name, _ in finding.find("slow disk")]
    assert "biolatency" in found and "ext4slower" not in found
    assert "ext4slower" in [name for name, _ in finding.find("slow")]


@pytest.mark.usefixtures("few")
def test_scores_fall_and_ties_are_in_order() -> None:
    found = finding.find("trace threads, signals, files")
    assert [score for _, score in found] == sorted((score for _, score in found), reverse=True)
    assert found == sorted(found, key=lambda one: (-one[1], one[0]))


@pytest.mark.parametrize(
    ("asked", "among"),
    [
        ("disk is slow", "biolatency"), ("slow disks", "biostacks"), ("who opens files", "opensnoop"),
        ("memory leak", "memleak"), ("lock contention", "klockstat"), ("time in soft interrupts", "softirqs"),
        ("what runs on the cpu", "profile"), ("flame graph", "profile"),
        ("idle cpu although threads wait", "cpuunclaimed"),
        ("work queues", "wqlat"), ("new processes", "execsnoop"), ("why does it exit", "exitsnoop"),
    ],
)  # fmt: skip
def test_the_tools_that_there_are(asked: str, among: str) -> None:
    assert among in [name for name, _ in finding.find(asked)][:8]


def test_every_tool_is_found_by_its_title() -> None:
    for name in catalog.names():
        assert name in [one for one, _ in finding.find(f"{name} {catalog.title(name)}")][:3], name


def test_what_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert commands.run("list", ["--for", "memory", "leaks"], False) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split(maxsplit=1) == ["memleak", catalog.title("memleak")]
    assert commands.run("list", ["--for=memory leaks", "--json"], False) == 0
    records = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert records[0]["name"] == "memleak" and records[0]["subject"] == "Memory"
    assert records[0]["title"] == catalog.title("memleak")
    assert [one["score"] for one in records] == sorted((one["score"] for one in records), reverse=True)


def test_nothing_found() -> None:
    with pytest.raises(NotFound, match=r"^list: no tool is about 'xyzzy'; osmia list shows all of them$"):
        commands.run("list", ["--for", "xyzzy"], False)
    with pytest.raises(OptionError, match="'is the' says nothing that tools differ in"):
        commands.run("list", ["--for", "is", "the"], False)
