# SPDX-License-Identifier: Apache-2.0
"""``osmia flame``: folded stacks from a file or a pipe, every kind of output, and mistakes told in one sentence."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from osmia.cli.common import Common
from osmia.cli.flame import draw
from osmia.views.flame_svg import Look

SRC = Path(__file__).resolve().parents[2] / "src"
FOLDED = "sh;main;work;sys_read_[k] 60\nsh;main;other 30\njava;Main.run_[j];inl_[i] 10\n"
BEFORE = "sh;main;work;sys_read_[k] 30\nsh;main;other 60\njava;Main.run_[j];inl_[i] 10\n"


def osmia(*words: str, stdin: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "osmia.cli.main", "flame", *words], input=stdin.encode("utf-8", "surrogateescape"),
        env={**os.environ, "PYTHONPATH": str(SRC)}, capture_output=True, timeout=60, check=False,
    )  # fmt: skip


def titles(svg: str) -> list[str]:
    return [g.findtext("{http://www.w3.org/2000/svg}title") or "" for g in ET.fromstring(svg).iter()
            if (g.get("class") or "").startswith("f ")]  # fmt: skip


def test_every_output_from_one_reading(tmp_path: Path) -> None:
    source = tmp_path / "run.folded"
    source.write_text(FOLDED)
    out = {kind: tmp_path / f"out.{kind}" for kind in ("svg", "html", "pprof", "speedscope", "parquet")}
    words = [word for kind, path in out.items() for word in (f"--{kind}", str(path))]
    done = osmia(str(source), *words, "--unit", "us")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    drawn = out["svg"].read_text()
    assert "main\n90 us, 90.00 %" in titles(drawn)
    assert "sys_read\n60 us, 60.00 %, kernel" in titles(drawn)
    assert "<title>run.folded</title>" in drawn
    assert "<title>run.folded</title>" in out["html"].read_text()
    assert b"sys_read" in gzip.decompress(out["pprof"].read_bytes())
    assert json.loads(out["speedscope"].read_text())["profiles"][0]["weights"] == [60, 30, 10]
    assert out["parquet"].read_bytes()[:4] == b"PAR1"


def test_a_pipe_in_and_a_pipe_out() -> None:
    done = osmia("--svg", "-", "--title", "a<b", "--icicle", "--waiting", stdin=FOLDED)
    assert done.returncode == 0, done.stderr
    drawn = done.stdout.decode()
    assert "<title>a&lt;b</title>" in drawn
    assert 'data-icicle="1"' in drawn
    assert titles(drawn)[0] == "all\n100 samples, 100.00 %"
    assert drawn != osmia("--svg", "-", "--title", "a<b", "--icicle", stdin=FOLDED).stdout.decode()


def test_a_comparison(tmp_path: Path) -> None:
    before = tmp_path / "before"
    before.write_text(BEFORE)
    drawn = osmia("--svg", "-", "--compare", str(before), "-", stdin=FOLDED).stdout.decode()
    assert "other\n30 samples, 30.00 %; before: 60, 60.00 %; -30.00 points" in titles(drawn)


def test_names_that_are_no_text(tmp_path: Path) -> None:
    assert "a\\xff\n1 samples, 100.00 %" in titles(osmia("--svg", "-", stdin="a\udcff 1\n").stdout.decode())
    source = tmp_path / "x"
    source.write_bytes(b"a\xff;b\rc\x85d 1\n")  # neither of these ends a line
    assert [title.split("\n")[0] for title in titles(osmia("--svg", "-", str(source)).stdout.decode())] == [
        "all", "a\\xff", "b\\rc\\x85d",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ([], "flame: nothing to do; say what is to be written: --svg FILE, --html FILE"),
        (["/no/such", "--svg", "-"], "/no/such: cannot read it: No such file or directory"),
        (["--svg", "/no/such/x"],
         "--svg /no/such/x: cannot open the output file: No such file or directory; "
         "name a file in a directory that exists and that you may write to"),
        (["--svg", "-", "--html", "-"], "flame: only one output can go to standard output"),
        (["--svg", "-", "--compare", "-"], "flame: --compare needs another file than the one that is drawn"),
        (["--svgg", "x"], "flame: unknown option --svgg; did you mean --svg?"),
    ],
)  # fmt: skip
def test_mistakes_get_one_sentence(words: list[str], sentence: str) -> None:
    done = osmia(*words, stdin=FOLDED)
    assert (done.stdout, done.stderr.decode()) == (b"", f"osmia: {sentence}\n")
    assert done.returncode in (1, 2)


def test_a_line_that_is_no_stack_is_named() -> None:
    done = osmia("--svg", "-", stdin="a;b 1\nhello\n")
    assert done.stderr.decode().startswith("osmia: standard input:2: a folded stack ends in a blank and a whole number")


def test_tools_draw_what_they_counted_where_they_are_asked_to(tmp_path: Path) -> None:
    stacks = [((("sh", ""), ("main", "u")), 3)]
    draw(Common(), stacks, Look())
    assert list(tmp_path.iterdir()) == []
    common = Common()
    common.svg.set(str(tmp_path / "a.svg"))
    common.html.set(str(tmp_path / "a.html"))
    draw(common, stacks, Look("profile"))
    assert titles((tmp_path / "a.svg").read_text())[-1] == "main\n3 samples, 100.00 %, user"
    assert "<title>profile</title>" in (tmp_path / "a.html").read_text()
