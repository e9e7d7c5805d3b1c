# SPDX-License-Identifier: Apache-2.0
"""ssllatency against connections whose calls are counted."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from harness import Tool, osmia
from tls import Tls

pytestmark = pytest.mark.kernel

WAIT = 0.02  # seconds until an answer


@pytest.fixture
def tls(tmp_path: Path) -> Iterator[Tls]:
    with Tls(tmp_path) as made:
        yield made


def found(tool: Tool) -> dict[str, dict[str, Any]]:
    """Histograms of OpenSSL's functions by name; the two that read and the two that write are one."""
    assert tool.status == 0 and tool.stderr == ""
    out = {}
    for record in tool.records():
        for one in record.get("histograms", []):
            if one["label"].startswith("SSL_"):
                out[one["label"].replace("_ex", "")] = one
    return out


def test_every_call_counts(tls: Tls) -> None:
    """Python calls for each message what it calls once; two ends have the handshake."""
    tool = Tool("ssllatency", "--json", "-p", tls.pid).start()
    tls.talk(11, WAIT)
    tls.talk(2, WAIT)
    seen = found(tool.stop())
    assert {name: one["count"] for name, one in seen.items()} == {
        "SSL_do_handshake": 4, "SSL_read": 2 * 13, "SSL_write": 2 * 13,
    }  # fmt: skip
    # The client waits for each answer; both ends wait for the other's half of the handshake.
    assert seen["SSL_read"]["sum"] >= 13 * WAIT * 1e6 and seen["SSL_read"]["max"] >= WAIT * 1e6
    assert seen["SSL_write"]["sum"] < seen["SSL_read"]["sum"]
    beyond = [one for one in seen["SSL_read"]["buckets"] if one["high"] is None]
    assert beyond and beyond[0]["count"] >= 13


def test_what_fails_is_apart(tls: Tls) -> None:
    tool = Tool("ssllatency", "--json", "-p", tls.pid).start()
    for _ in range(3):
        tls.refuse()
    seen = found(tool.stop())
    failed = seen["SSL_do_handshake (failed)"]["count"]
    assert 3 <= failed <= 6  # the server is told after its half is done, or before
    assert seen.get("SSL_do_handshake", {"count": 0})["count"] == 6 - failed


def test_the_text(tls: Tls) -> None:
    """With the exact count, average and total of each."""
    tool = Tool("ssllatency", "-p", tls.pid).start()
    tls.talk(7)
    tool.stop()
    assert tool.status == 0 and tool.stderr == ""
    assert tool.stdout.startswith("Tracing SSL/TLS handshake... Hit Ctrl-C to end.\n")
    block = re.compile(r"^function = (SSL_\w+)\n.*?^count (\d+), average (\d+), total (\d+)$", re.M | re.S)
    blocks = block.findall(tool.stdout)
    counts = {name.removesuffix("_ex"): int(count) for name, count, _, _ in blocks}
    assert counts == {"SSL_do_handshake": 2, "SSL_read": 14, "SSL_write": 14}
    assert all(int(average) == int(total) // int(count) for _, count, average, total in blocks)
    assert re.search(r"^ +0 -> 199 +: \d+ +\|", tool.stdout, re.M)


@pytest.mark.parametrize(("words", "shown"), [(["-n", "pyth"], True), (["-n", "no-such"], False)])
def test_filters(tls: Tls, words: list[str], shown: bool) -> None:
    tool = Tool("ssllatency", "--json", *words).start()
    tls.talk(3)
    assert bool(found(tool.stop())) == shown


def test_other_processes_are_left_out(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with Tls(tmp_path / "other") as other:
        other.talk(1)  # it has the library
        tool = Tool("ssllatency", "--json", "-p", other.pid).start()
        tls.talk(3)
        assert found(tool.stop()) == {}


def test_a_command_and_what_it_starts(tls: Tls, tmp_path: Path) -> None:
    (tmp_path / "input").write_text("talk 5 0\n")
    done = osmia("ssllatency", "-c", f"sh -c 'python3 {tmp_path}/tls.py {tmp_path} <{tmp_path}/input; true'")
    assert done.returncode == 0 and done.stderr == ""
    assert re.search(r"^count 10, ", done.stdout, re.M)


@pytest.mark.anywhere
def test_mistakes() -> None:
    done = osmia("ssllatency", "--libssl", "/no/such/libssl", "--libcrypto", "/no/such/libcrypto")
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "osmia: /no/such/libssl: there is no such file\n")


@pytest.mark.anywhere
def test_a_recording_would_have_no_names(tmp_path: Path) -> None:
    done = osmia("record", "ssllatency", "-o", str(tmp_path / "rec"), "--duration", "0.1")
    assert done.returncode == 1 and "what it shows cannot be recorded yet" in done.stderr
