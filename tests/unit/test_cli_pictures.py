# SPDX-License-Identifier: Apache-2.0
"""``--heatmap``, ``--svg`` and ``--html`` of histogram tools, on simulated histograms and a simulated clock."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from osmia import histogram, log2_hist, u32
from osmia.cli import pictures, templates
from osmia.cli.common import Common
from osmia.cli.pictures import HeatMapView
from osmia.errors import UserError

SRC = Path(__file__).resolve().parents[2] / "src"
START = 1_790_000_000.0  # 14:13:20 UTC


class Clock:
    """A clock that stands still until it is moved; like the real one it has a name for each of its faces."""

    def __init__(self) -> None:
        self.now = 50.0

    def monotonic(self) -> float:
        return self.now

    def time(self) -> float:
        return START + self.now - 50.0

    def strftime(self, form: str, *when: Any) -> str:
        return time.strftime(form, *when)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    made = Clock()
    monkeypatch.setattr(pictures, "time", made)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield made
    monkeypatch.undo()
    time.tzset()


def view(template: Any, *, interval: float = 0.0, fd: int = -1, **options: str | bool) -> HeatMapView:
    common = Common()
    for name, value in options.items():
        getattr(common, name).set(value)
    if interval:
        common.interval.set(interval)
    session: Any = SimpleNamespace(
        common=common, unit=SimpleNamespace(name="tool", template=template), started=50.0, out=SimpleNamespace(fd=fd),
        host=lambda: os.uname().nodename,
    )
    made = templates.view_of(session)
    assert isinstance(made, HeatMapView)
    return made


def titles(path: Path) -> list[str]:
    root = ET.parse(path).getroot()
    return [node.text or "" for rect in root.iter("{http://www.w3.org/2000/svg}rect") for node in rect]


def test_a_heat_map_instead_of_histograms(clock: Clock) -> None:
    hist = log2_hist("usecs")
    made = view(histogram(hist, banner="Tracing..."), heatmap=True)
    assert made.interval == 1.0
    assert made.begin() == "Tracing...\n"
    for second, values in enumerate(([5, 5, 70], [6], [])):
        for value in values:
            hist.add(value)
        clock.now = 51.0 + second + 0.01
        assert made.summary(False) == ""
    hist.add(9)
    clock.now = 53.02  # a sliver of time: it belongs to the last column
    assert made.summary(True) == ""
    assert made.finish() == (
        "\n"
        "     usecs |   | count\n"
        " 64 -> 127 |.  | 1\n"
        "  32 -> 63 |   | 0\n"
        "  16 -> 31 |   | 0\n"
        "   8 -> 15 |  .| 1\n"
        "    4 -> 7 |@. | 3\n"
        "           +---+\n"
        "            14:13:20\n"
        "            a column is 1 s;  . 1  @ 2\n"
    )


def test_files_beside_one_histogram_at_the_end(clock: Clock, tmp_path: Path) -> None:
    hist = log2_hist("usecs")
    svg, html = tmp_path / "a.svg", tmp_path / "a.html"
    made = view(histogram(hist, unit="msecs"), svg=str(svg), html=str(html))
    for second in range(3):
        hist.add(5)
        clock.now += 1
        assert made.summary(second == 2) == ""
    hist.add(1000)  # after the last column: in neither
    assert made.finish() == (
        "\n     msecs               : count     distribution\n"
        "         0 -> 1          : 0        |                                        |\n"
        "         2 -> 3          : 0        |                                        |\n"
        "         4 -> 7          : 3        |****************************************|\n"
    )
    assert titles(svg) == [f"14:13:2{n} to 14:13:2{n + 1}, 4 -> 7 msecs: 1, 100.00 % of 1 s, 33.33 % of all"
                           for n in range(3)]  # fmt: skip
    note = f"{os.uname().nodename}, 14:13:20 to 14:13:23, 3 values"
    assert note in svg.read_text()
    assert note in html.read_text()
    assert html.read_text().count("33.33 % of all</title>") == 3


def test_an_interval_that_was_asked_for_is_printed_as_ever(clock: Clock, tmp_path: Path) -> None:
    hist = log2_hist("usecs")
    made = view(histogram(hist), interval=5.0, svg=str(tmp_path / "a.svg"))
    assert made.interval == 5.0
    hist.add(1)
    clock.now += 5
    assert "0 -> 1          : 1 " in made.summary(False)
    hist.add(1)
    clock.now += 2
    assert "0 -> 1          : 1 " in made.summary(True)
    assert made.finish() == ""
    assert [title.partition(",")[0] for title in titles(tmp_path / "a.svg")] == [
        "14:13:20 to 14:13:25", "14:13:25 to 14:13:30",
    ]  # fmt: skip


def test_records_stay_records(clock: Clock, tmp_path: Path) -> None:
    hist = log2_hist("usecs")
    made = view(histogram(hist), json=True, html=str(tmp_path / "a.html"))
    hist.add(1)
    clock.now += 1
    assert made.begin() + made.summary(True) == ""
    assert '"buckets":[{"low":0,"high":1,"count":1}]' in made.finish()


def test_a_picture_for_each_key_largest_first_and_the_rest_is_told(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pictures, "KEYS", 2)
    hist = log2_hist("usecs", key=u32)
    made = view(histogram(hist, section="disk", label="<{}>".format), heatmap=True, svg=str(tmp_path / "a.svg"))
    for key, count in ((1, 3), (2, 9), (3, 1)):
        for _ in range(count):
            hist[key].add(4)
    clock.now += 1
    made.summary(True)
    text = made.finish()
    assert re.findall(r"^disk = .*$", text, re.M) == ["disk = <2>", "disk = <1>"]
    assert text.endswith("\n1 more with fewer values is not shown\n")
    drawn = (tmp_path / "a.svg").read_text()
    assert "disk = &lt;2&gt;" in drawn
    assert "13 values; 1 more with fewer values is not shown" in drawn


def test_a_terminal_sees_the_map_grow(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    main, side = pty.openpty()
    try:
        hist = log2_hist("usecs")
        made = view(histogram(hist), fd=side, heatmap=True)
        hist.add(4)
        clock.now += 1
        first = made.summary(False)
        hist.add(9)
        clock.now += 1
        second = made.summary(True)
        assert first.startswith("\n")
        assert "\x1b[48;5;" in first
        # Back over exactly what was drawn, and everything there is gone.
        assert second.startswith(f"\x1b[{first.count(chr(10))}A\r\x1b[J\n")
        assert made.finish() == ""
        monkeypatch.setenv("NO_COLOR", "1")
        plain = view(histogram(hist), fd=side, heatmap=True)
        clock.now += 1
        assert plain.summary(True) == ""
        assert "\x1b" not in plain.finish()
    finally:
        os.close(main)
        os.close(side)


def test_a_picture_on_standard_output_stands_there_alone(clock: Clock, capfd: pytest.CaptureFixture[str]) -> None:
    hist = log2_hist("usecs")
    made = view(histogram(hist, banner="Tracing..."), fd=1, svg="-")
    hist.add(4)
    clock.now += 1
    assert made.begin() + made.summary(True) + made.finish() == ""
    ET.fromstring(capfd.readouterr().out)


def test_a_file_that_cannot_be_written_is_said_at_once(clock: Clock) -> None:
    with pytest.raises(UserError, match="cannot open the output file: No such file or directory"):
        view(histogram(log2_hist("usecs")), svg="/no/such/dir/a.svg")


def test_only_histograms_have_these_options_yet_and_forms_exclude_each_other() -> None:
    def osmia(*words: str) -> str:
        command = [sys.executable, "-m", "osmia.cli.main", *words]
        env = {**os.environ, "PYTHONPATH": str(SRC)}
        done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    assert "--heatmap" in osmia("biolatency", "--help")
    assert "--heatmap" not in osmia("opensnoop", "--help")
    for form in ("--json", "--csv"):
        assert osmia("runqlat", "--heatmap", form) == f"osmia: runqlat: --heatmap and {form} exclude each other\n"


def test_nothing_of_it_is_imported_unless_it_is_asked_for() -> None:
    code = (
        "import sys\n"
        "from types import SimpleNamespace as S\n"
        "from osmia.cli import main, session, templates\n"
        "from osmia.cli.common import Common\n"
        "unit = main.tool_unit('runqlat')\n"
        "common = Common()\n"
        "made = S(common=common, unit=unit, started=0.0, out=S(fd=-1))\n"
        "def names(): return {n for n in sys.modules if n.startswith('osmia.')} \n"
        "templates.view_of(made).summary(True)\n"
        "before = names()\n"
        "common.heatmap.set(True)\n"
        "templates.view_of(made).summary(True)\n"
        "print(*sorted(n for n in before if 'heat' in n or 'picture' in n or 'flame' in n or 'page' in n), '|',"
        " *sorted(names() - before))"
    )
    done = subprocess.run([sys.executable, "-S", "-c", code], env={"PYTHONPATH": str(SRC)}, capture_output=True,
                          text=True, check=True)  # fmt: skip
    assert done.stdout == "| osmia.cli.pictures osmia.views.heatmap\n"
