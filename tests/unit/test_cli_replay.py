# SPDX-License-Identifier: Apache-2.0
"""``osmia replay``: every form of every kind of recording, without a kernel, and mistakes told in one sentence.

The recordings in ``tests/fixtures/recordings`` were made by the version in
their names and stay as they are: what could be read once can be read for ever.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from recordings import EVENTS, header, made, read, span

from osmia import Hash, log2_hist
from osmia.cli import record, replay
from osmia.cli.replay_options import moment
from osmia.errors import OptionError, UserError
from osmia.events import recording, samples, snapshots
from osmia.events.recording import Recording
from osmia.lang.types import u32, u64

SRC = Path(__file__).resolve().parents[2] / "src"
FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "recordings"
OLD = FIXTURES / "opensnoop-1.0.rec"
WAITS = FIXTURES / "runqlat-1.0.rec"


def osmia(*words: str | Path, stdin: bytes = b"", **env: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "osmia.cli.main", "replay", *map(str, words)], input=stdin,
        env={**os.environ, "PYTHONPATH": str(SRC), "OSMIA_DEBUG": "1", **env}, capture_output=True, timeout=60,
        check=False,
    )  # fmt: skip


def shown(*words: str | Path, **env: str) -> str:
    done = osmia(*words, **env)
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode()


def said(*words: str | Path) -> str:
    """The one sentence of a replay that fails."""
    done = osmia(*words)
    assert done.returncode in (1, 2) and done.stdout == b""
    assert done.stderr.count(b"\n") == 1
    return done.stderr.decode().removeprefix("osmia: ").rstrip("\n")


def changed(path: Path, to: Path, **more: Any) -> Path:
    """The recording with other things in its header."""
    reader, blocks = read(path.read_bytes())
    head = {**reader.header, **more}

    def fill(file: Recording) -> None:
        for block in blocks:
            file.block(block.kind, block.payload, block.source)

    to.write_bytes(made(fill, head))
    return to


# -- what older versions have recorded ------------------------------------


@pytest.mark.parametrize("path", [OLD, WAITS])
def test_what_was_recorded_once_is_shown_the_same_for_ever(path: Path) -> None:
    assert shown(path) == path.with_suffix(".txt").read_text()
    assert osmia("-", stdin=path.read_bytes()).stdout.decode() == shown(path)


def test_nothing_is_asked_of_the_kernel() -> None:
    """Not one system call of BPF or perf, and none of the code that would make them."""
    code = (
        "import sys\n"
        "from osmia.kernel import door\n"
        "def never(*args): raise AssertionError(args)\n"
        "door.syscall = never\n"
        "from osmia.cli.main import main\n"
        f"status = main(['replay', {str(OLD)!r}, '-T']) or main(['replay', {str(WAITS)!r}, '--svg', '/dev/null'])\n"
        "print([n for n in sys.modules if n.startswith(('osmia.load', 'osmia.link', 'osmia.compiler', 'llvmlite'))])\n"
        "raise SystemExit(status)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": str(SRC)}, text=True,
                          capture_output=True, timeout=60, check=False)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-1] == "[]"


def test_events_in_other_forms_than_the_run_had(tmp_path: Path) -> None:
    records = [json.loads(line) for line in shown(OLD, "--json").splitlines()]
    paths = ["/etc/hostname", "/etc/passwd", "/nowhere/at/all", "/tmp/a\x1bb", "/etc/group"]
    assert [one["path"] for one in records] == paths
    assert {one["comm"] for one in records} == {"reader"}
    table = list(csv.reader(io.StringIO(shown(OLD, "--csv", "-e", "-U"))))
    assert table[0] == ["UID", "PID", "COMM", "FD", "ERR", "FLAGS", "MODE", "PATH"]
    assert [row[-1] for row in table[1:]] == [path.replace("\x1b", "\\x1b") for path in paths]
    assert "0.000000000" in shown(OLD, "-T").splitlines()[1]
    out = tmp_path / "rows"
    assert shown(OLD, "-o", out) == "" and out.read_text() == OLD.with_suffix(".txt").read_text()


def test_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    assert shown(OLD, "--parquet", tmp_path / "a") == shown(WAITS, "--parquet", tmp_path / "b") == ""
    events = parquet.read_table(tmp_path / "a").to_pylist()
    assert [json.loads(line) for line in shown(OLD, "--json").splitlines()] == events
    buckets = parquet.read_table(tmp_path / "b").to_pylist()
    assert sum(row["count"] for row in buckets) == 6 + 8
    assert {row["label"] for row in buckets} == {"30627"} and {row["unit"] for row in buckets} == {"usecs"}


def test_histograms_by_other_intervals_add_up(tmp_path: Path) -> None:
    def totals(*words: str) -> list[int]:
        return [sum(one["count"] for one in json.loads(line)["histograms"])
                for line in shown(WAITS, "--json", *words).splitlines()]  # fmt: skip

    assert totals() == [6, 8]
    assert totals("2") == [14]
    assert totals("1", "1") == [6]
    assert totals("--from", "1.5") == [8]
    assert totals("--to", "1.5") == [6]
    picture = tmp_path / "x.svg"
    shown(WAITS, "--svg", picture)
    assert "30627" in picture.read_text() and "vm, " in picture.read_text()
    ET.parse(picture)
    assert "@" in shown(WAITS, "--heatmap")


def test_the_times_are_those_of_the_recorded_machine() -> None:
    there = [shown(WAITS, "-T", TZ=zone) for zone in ("UTC", "Asia/Tokyo", "America/New_York")]
    assert len({*there}) == 1 and "13:16:18\n" in there[0]
    line = json.loads(shown(WAITS, "--json").splitlines()[0])
    assert line["time"] == 1795526178.091207


def test_a_range_of_time_by_the_time_of_each_event() -> None:
    def count(*words: str) -> int:
        return shown(OLD, *words).count("reader")

    assert count("--from", "0") == 5 and count("--to", "1e6") == 5
    first = json.loads(shown(OLD, "--json").splitlines()[0])["ts"]
    head = read(OLD.read_bytes())[0].header
    after = (first - head["started_ns"]) / 1e9 + 0.15  # the events are 0.3 s apart
    assert count("--to", f"{after:.3f}") == 1
    assert count("--from", f"{after:.3f}") == 4
    assert count("--from", f"{after:.3f}", "--to", f"{after + 0.6:.3f}") == 2
    clocks = head["clocks"]
    wall = (clocks["wall_ns"] - clocks["monotonic_ns"] + first) // 1_000_000_000 % 86400
    day = f"{wall // 3600:02}:{wall // 60 % 60:02}:{wall % 60:02}"
    assert count("--from", day) == 5 and count("--to", day) == 0


def test_times_that_are_none() -> None:
    assert moment("2.5") == (False, 2.5) and moment("14:13:20.5") == (True, 51200.5) and moment("01:30") == (True, 5400)
    for word in ("", "x", "-1", "25:00", "1:2:3:4", "10:61", "nan", "inf", "1:-2"):
        with pytest.raises(ValueError, match="is no time"):
            moment(word)
    assert said(OLD, "--from", "2", "--to", "1") == "replay: --to is not after --from"


# -- tools that have changed, files that are no tools ----------------------


def test_a_tool_that_is_not_there_is_shown_by_the_schema(tmp_path: Path) -> None:
    path = changed(OLD, tmp_path / "x", tool="gone_tool")
    done = osmia(path)
    assert done.returncode == 0
    why = "this osmia has no tool gone_tool; shown by the recording's own description"
    assert done.stderr.decode() == f"osmia: {path}: {why}\n"
    assert done.stdout.decode() == OLD.with_suffix(".txt").read_text()  # the columns are in it, too
    assert osmia(path, "--json").stdout.decode() == shown(OLD, "--json")
    head, first, *_ = osmia(changed(path, path, template={})).stdout.decode().splitlines()
    assert head.split() == ["TIME", "PID", "TID", "UID", "FD", "ERR", "FLAGS", "MODE", "COMM", "PATH"]
    assert first.split()[1:] == ["30617", "30617", "0", "3", "0", "0", "0", "reader", "/etc/hostname"]


def test_a_tool_whose_event_has_changed_since(tmp_path: Path) -> None:
    sources = read(OLD.read_bytes())[0].header["sources"]
    fields = sources[0]["schema"]["fields"]
    fields[2] = {**fields[2], "name": "thread"}
    path = changed(OLD, tmp_path / "x", sources=sources)
    done = osmia(path, "--json")
    assert b"opensnoop has changed since it was recorded" in done.stderr
    assert json.loads(done.stdout.splitlines()[0])["thread"] == 30617


def test_keyed_histograms_of_a_tool_that_is_not_there(tmp_path: Path) -> None:
    done = osmia(changed(WAITS, tmp_path / "x", tool="gone_tool"))
    assert done.stdout.decode() == WAITS.with_suffix(".txt").read_text()


def test_a_recorded_file_is_never_executed(tmp_path: Path) -> None:
    trap = tmp_path / "trap.py"
    trap.write_text("raise SystemExit('executed')\n")
    path = changed(OLD, tmp_path / "x", tool=str(trap), file=True, command=[str(trap)])
    assert "executed" not in osmia(path).stdout.decode() + osmia(path).stderr.decode()
    assert osmia(path).stdout.count(b"reader") == 5


# -- made-up recordings ----------------------------------------------------


def table_of_counts(tmp_path: Path) -> Path:
    reads, sizes = Hash[u32, u64](), log2_hist("bytes")
    reads.name, sizes.name = "reads", "sizes"
    one, two = snapshots.Changes(reads), snapshots.Changes(sizes)

    def fill(file: Recording) -> None:
        for key in (5, 3, 4):
            reads[key] = 7
        reads[9] = 1
        sizes.add(100, 3)
        file.block(recording.SNAPSHOT, one.next(snapshots.state_of(reads)) or b"", 1)
        file.block(recording.SNAPSHOT, two.next(snapshots.state_of(sizes)) or b"", 2)
        file.block(recording.INTERVAL, b"\1\1")

    path = tmp_path / "counts.rec"
    path.write_bytes(made(fill, header(snapshots.describe(reads), snapshots.describe(sizes))))
    return path


def test_maps_and_histograms_of_a_file_without_a_template(tmp_path: Path) -> None:
    text = shown(table_of_counts(tmp_path))
    assert "reads:\n  9  1\n  3  7\n  4  7\n  5  7\n" in text
    assert "64 -> 127        : 3        |****************************************|" in text
    machine = [json.loads(line) for line in shown(table_of_counts(tmp_path), "--json").splitlines()]
    assert {(one["name"], len(one["entries"])) for one in machine} == {("reads", 4), ("sizes", 1)}


def test_counts_with_other_numbers_of_a_tool_that_is_not_there(tmp_path: Path) -> None:
    calls, times, names = Hash[u32, u64](), Hash[u32, u64](), Hash[u32, u64]()
    for table, name, value in ((calls, "calls", 3), (times, "times", 1000), (names, "names", 7)):
        table.name = name
        table[5], table[6] = value, 2 * value

    def fill(file: Recording) -> None:
        for number, table in enumerate((times, calls, names), 1):
            file.block(recording.SNAPSHOT, snapshots.Changes(table).next(snapshots.state_of(table)) or b"", number)
        file.block(recording.INTERVAL, b"\1\1")

    sources = [{**snapshots.describe(table), "shown": table is calls, "read": table is names}
               for table in (times, calls, names)]  # fmt: skip
    columns = [{"field": field, "heading": field.upper(), "width": 6, "align": ""} for field in ("key", "count", "ns")]
    told = {"kind": "CountTable", "banner": "Counting", "more": {"ns": "times"}, "columns": columns}
    path = tmp_path / "x.rec"
    path.write_bytes(made(fill, header(*sources, template=told)))
    assert [line.split() for line in shown(path).splitlines() if line] == [
        ["Counting"], ["KEY", "COUNT", "NS"], ["5", "3", "1000"], ["6", "6", "2000"],
    ]  # fmt: skip


def test_losses_and_cost_are_told_as_at_the_end_of_a_run(tmp_path: Path) -> None:
    def fill(file: Recording) -> None:
        file.events(1, span((1, 2, 3, b"x")))
        file.note(recording.LOSSES, {"lost": [[0, "ring", "seen", 23, 4096], [1, "map", "c\x1b", 1, 5]]})
        file.note(recording.COST, {"text": "cost of it\x1b\n", "stats": {"cost": {"seconds": 1}}})

    path = tmp_path / "x.rec"
    path.write_bytes(made(fill, header(EVENTS, options={"--stats": True})))
    done = osmia(path)
    assert done.stderr.decode() == (
        "cost of it\\x1b\n"
        "osmia: seen: 23 events lost: ring full (4 KB; --ring-size makes it larger)\n"
        "osmia: c\\x1b: 1 update lost: map full (5 entries)\n"
    )
    records = [json.loads(line) for line in osmia(path, "--json").stdout.splitlines()]
    assert records[1:] == [{"lost": {"seen: ring": 23, "c\x1b: map": 1}}, {"cost": {"seconds": 1}}]


def test_prints_and_text_of_the_kernel(tmp_path: Path) -> None:
    import struct

    def fill(file: Recording) -> None:
        values = struct.pack("<IIq8s", 0, 0, -5, b"a\x1bb")
        file.events(1, struct.pack("<II", len(values), 0) + values)
        file.block(recording.TEXT, b"from an iterator\tx\x1b[2J\n")

    head = header({"type": "prints", "name": "osmia_print"}, prints=[["print", "0", "{} is {:>6}", "is8", "x.py:1"]])
    path = tmp_path / "x.rec"
    path.write_bytes(made(fill, head))
    assert shown(path) == "-5 is a\\x1bb\nfrom an iterator\tx\\x1b[2J\n"
    for evil in ("{0.__class__}", "{:>99999999}", "{!r:{}}", "{x}", "{"):
        path.write_bytes(made(fill, {**head, "prints": [["print", "0", evil, "is8", ""]]}))
        assert "its header is damaged" in said(path), evil


def test_a_recording_that_was_cut_says_so_and_shows_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "cut.rec"
    path.write_bytes(OLD.read_bytes()[:-300])
    done = osmia(path)
    assert done.returncode == 0 and done.stdout.count(b"reader") >= 3
    assert done.stderr.startswith(f"osmia: {path}: the recording was cut: it ends after 0.".encode())
    path.write_bytes(WAITS.read_bytes()[:-260])  # before the last summary
    assert osmia(path).stdout.count(b"distribution") == 1


# -- samples ---------------------------------------------------------------

STACKS = [(("main", "u"), ("work", "u"), ("k_read", "k")), (("main", "u"), ("idle", "u"))]


def sampled(tmp_path: Path, unit: str = "samples", phase: int | None = None) -> Path:
    """A hundred samples in two seconds, from now on or from so many ns of a second on."""

    def fill(file: Recording) -> None:
        out = samples.SampleWriter(file, 1)
        numbers = [out.stack(tuple([(name, kind, "", "", -1) for name, kind in stack])) for stack in STACKS]
        start = file.now if phase is None else file.now + (phase - file.now - file.offset) % 1_000_000_000
        for n in range(100):
            out.add(start + n * 20_000_000, 42, b"prog", numbers[n % 5 == 0], 1)
        out.flush()

    path = tmp_path / "samples.rec"
    path.write_bytes(made(fill, header(samples.describe(unit), tool="profile_made_up")))
    return path


def test_samples_in_every_form(tmp_path: Path) -> None:
    path = sampled(tmp_path, phase=300_000_000)  # the last one is in the next second but one
    folded = "prog;main;idle 20\nprog;main;work;k_read_[k] 80\n"
    assert shown(path) == folded
    out = {kind: tmp_path / f"x.{kind}" for kind in ("svg", "html", "pprof", "speedscope")}
    words = [word for kind, file in out.items() for word in (f"--{kind}", str(file))]
    assert shown(path, *words) == ""
    svg = out["svg"].read_text()
    assert "work\n80 samples, 80.00 %" in svg and "<title>profile_made_up, elsewhere</title>" in svg
    page = out["html"].read_text()
    assert 'id="osmia-offsets"' in page  # a range of time can be chosen
    data = json.loads(page.partition('id="osmia-data">')[2].partition("</script>")[0])
    assert len(data["times"]) == 100 and sum(data["times"][1:]) == 99 * 20_000
    assert b"k_read" in gzip.decompress(out["pprof"].read_bytes())
    weights = json.loads(out["speedscope"].read_text())["profiles"][0]
    assert weights["weights"] == [1] * 100 and len({*map(tuple, weights["samples"])}) == 2
    records = [json.loads(line) for line in shown(path, "--json").splitlines()]
    words = {"u": "user", "k": "kernel"}
    assert records[1]["stack"] == [{"name": name, "kind": words[kind]} for name, kind in STACKS[0]]
    assert [one["pid"] for one in records] == [42] * 100
    assert len(shown(path, "--csv").splitlines()) == 101
    head, *rows = shown(path, "--heatmap").splitlines()
    assert head.split("|")[0].strip() == "ms" and len(head.split("|")[1]) == 3  # two seconds, of which one is cut
    counts = [int(row.rpartition("|")[2]) for row in rows if row.count("|") == 2]
    assert len(counts) == 20 and sum(counts) == 100 and min(counts) >= 4  # evenly within each second
    assert "sums of us" in said(sampled(tmp_path, "us"), "--heatmap")


def test_samples_of_a_range_and_of_another_unit(tmp_path: Path) -> None:
    path = sampled(tmp_path)
    begun = read(path.read_bytes())[0].header["clocks"]["monotonic_ns"]
    path = changed(path, tmp_path / "y", started_ns=begun)
    part = shown(path, "--from", "0.5", "--to", "1.5", "--json").splitlines()
    assert 48 <= len(part) <= 51
    html = tmp_path / "x.html"
    shown(sampled(tmp_path, "us"), "--html", html)
    assert "osmia-offsets" not in html.read_text() and "80 us" in html.read_text()


def test_samples_as_parquet(tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    shown(sampled(tmp_path), "--parquet", tmp_path / "p")
    rows = parquet.read_table(tmp_path / "p").to_pylist()
    assert sorted((row["count"], row["frames"][-1]) for row in rows) == [(20, "idle"), (80, "k_read")]


# -- mistakes --------------------------------------------------------------


def test_what_took_effect_in_the_kernel_stays(tmp_path: Path) -> None:
    stays = "takes effect in the kernel, so it stays as it was recorded; record anew"
    assert said(OLD, "-p", "5") == f"replay: --pid {stays}"
    assert said(OLD, "-x").startswith("replay: --failed takes effect in the kernel")
    assert said(WAITS, "--milliseconds").startswith("replay: --milliseconds takes effect in the kernel")
    assert said(WAITS, "0.5") == (
        "replay: the recording has a snapshot each 1 s, so an interval of 0.5 s cannot be shown; "
        "choose a longer one, or record with a shorter one"
    )


def test_forms_that_do_not_fit(tmp_path: Path) -> None:
    assert said(OLD, "--svg", "x") == (
        f"{OLD}: opensnoop shows nothing that has a picture; --json, --csv and --parquet FILE work for every recording"
    )
    assert said(OLD, "--pprof", "x") == f"{OLD}: there are no stacks in it, as --pprof needs them"
    assert said(OLD, "--json", "--csv") == "replay: --json and --csv exclude each other"
    assert said(OLD, "-d", "5").startswith("replay: unknown option -d")
    assert said("--json", OLD) == "replay: the recording comes first; osmia replay FILE [options]"
    assert said(tmp_path / "none") == f"{tmp_path}/none: cannot read it: No such file or directory"
    assert said(tmp_path) == f"{tmp_path}: cannot read it: Is a directory"


def test_help() -> None:
    assert osmia().returncode == 2
    general = shown("--help")
    assert general.startswith("usage: osmia replay FILE [options] [interval [count]]\n") and "--from=TIME" in general
    special = shown(OLD, "--help")
    assert "--print-uid" in special and "--from=TIME" in special


def test_record_says_what_it_needs() -> None:
    for words, sentence in {
        ("opensnoop",): "record: where does the recording go?; osmia record opensnoop -o FILE",
        ("-o", "x"): "record: which tool?; osmia record TOOL -o FILE",
        ("-o", "x", "flame"): "record: flame is no tool; osmia list shows the tools",
        ("-o", "x", "opensnoop", "-o", "y"): "record: -o is there twice; leave one of them out",
        ("--show", "opensnoop", "-o", "-"):
            "record: standard output cannot take both the recording and what is shown",
        ("runqlat", "--svg", "a.svg", "-o", "x"): "record: --svg is for the replay; osmia replay x --svg FILE",
    }.items():  # fmt: skip
        with pytest.raises(OptionError) as caught:
            record.run([*words], False)
        assert str(caught.value) == sentence


NINE = [(n, 1, 2, b"c") for n in range(9)]


def test_nothing_that_is_damaged_is_more_than_a_sentence(tmp_path: Path) -> None:
    """Payloads with wrong bytes under right checksums: what a hostile file would have."""
    chance = random.Random(101)
    path, out = tmp_path / "x.rec", tmp_path / "out"
    originals = [table_of_counts(tmp_path).read_bytes(), sampled(tmp_path).read_bytes(),
                 made(lambda file: file.events(1, span(*NINE)), header(EVENTS))]  # fmt: skip
    failed = 0
    for number in range(300):
        reader, blocks = read(originals[number % 3])
        victim = chance.choice(blocks)
        bad = bytearray(victim.payload)
        for _ in range(chance.randrange(1, 4)):
            bad[chance.randrange(len(bad))] = chance.randrange(256)
        victim.payload = bytes(bad)

        def fill(file: Recording, blocks: list[recording.Block] = blocks) -> None:
            for block in blocks:
                file.block(block.kind, block.payload, block.source)

        path.write_bytes(made(fill, reader.header))
        try:
            replay.run([str(path), "-o", str(out)])
        except UserError as err:
            failed += 1
            assert "\n" not in str(err)
    assert failed > 20


@pytest.mark.parametrize("broken", [
    {"sources": 5}, {"sources": [{"number": 1}]}, {"tool_started_ns": 1, "started_ns": "x"}, {"prints": [[1]]},
    {"sources": [{"number": 1, "type": "events", "name": "a", "schema": {"struct": "A", "fields": []}}]},
    {"sources": [{"number": 1, "type": "histogram", "name": "a", "kind": "log2", "unit": "x", "key": "u99"}]},
])  # fmt: skip
def test_headers_that_are_damaged(broken: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "x.rec"
    path.write_bytes(made(lambda file: None, {**header(EVENTS), **broken}))
    with pytest.raises(UserError) as caught:
        replay.run([str(path), "-o", str(tmp_path / "out")])
    assert "\n" not in str(caught.value)
