# SPDX-License-Identifier: Apache-2.0
"""A guest that hangs never hangs the run, and what is missing is named."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from vmtest import boot, config, fetch
from vmtest.problem import Problem


@pytest.fixture
def share(tmp_path: Path) -> Path:
    (tmp_path / "serial.log").write_text("Linux version\n")
    return tmp_path


def sleeper(share: Path, script: str = "sleep 60") -> subprocess.Popen[bytes]:
    return subprocess.Popen(["sh", "-c", script], cwd=share, start_new_session=True)


def watched(process: subprocess.Popen[bytes], share: Path) -> str:
    try:
        return boot._watch(process, share, lambda text: None)
    finally:
        boot._end(process)
        assert process.poll() is not None


def test_no_sign_of_life(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "BOOT_SECONDS", 1)
    assert watched(sleeper(share), share) == "no sign of life after 1 s"


def test_silence_after_the_first_tests(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "SILENT_SECONDS", 1)
    (share / "results.jsonl").write_text('{"event": "booted"}\n')
    assert watched(sleeper(share), share) == "silent for 1 s"


def test_too_long_a_run(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config, "RUN_SECONDS", 1)
    (share / "results.jsonl").write_text('{"event": "booted"}\n')
    script = "while :; do echo x >> results.jsonl; sleep 0.1; done"
    assert watched(sleeper(share, script), share) == "not done after 1 s"


def test_a_kernel_in_trouble_is_silent(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may fill the log for hours."""
    monkeypatch.setattr(config, "SILENT_SECONDS", 1)
    (share / "results.jsonl").write_text('{"event": "booted"}\n')
    assert watched(sleeper(share, "while :; do echo x >> serial.log; sleep 0.1; done"), share) == "silent for 1 s"


GUEST = """
import json, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from vmtest.boot import read
results = Path("results.jsonl")
ended = {r["id"] for r in read(results) if "id" in r}
with results.open("a") as file:
    say = lambda **words: print(json.dumps(words), file=file, flush=True)
    say(event="booted", release="1.2")
    for test in ("settled", "good", "deadly", "deadly once", "last"):
        if test not in ended:
            say(event="began", test=test)
            if test == "deadly" or (test == "deadly once" and not Path("once").exists()):
                Path("once").touch() if test == "deadly once" else None
                file.write('{"id": "cut off')
                sys.exit(1)
            say(id=test, outcome="passed", why="", seconds=0)
    say(event="finished", status=0)
"""


def test_a_guest_that_died_is_booted_again(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For what remains; the test that it dies in twice has failed, what had ended before is no result."""
    monkeypatch.setattr(boot, "LOCK", share / "lock")
    (share / "guest.py").write_text(GUEST)
    command = [sys.executable, str(share / "guest.py"), str(config.REPO)]

    def popen(_nice: list[str], **words: Any) -> subprocess.Popen[bytes]:
        return real(command, **{**words, "cwd": share})

    real = subprocess.Popen
    monkeypatch.setattr(boot.subprocess, "Popen", popen)
    monkeypatch.setattr(boot, "_prepare", lambda *_: (command, dict(os.environ)))
    said: list[str] = []
    kernel: Any = SimpleNamespace(release="1.2")
    records = boot.run(kernel, boot.Job(config.BOOTS[0], ended=["settled"]), share, jobs=1, say=said.append)
    outcomes = [(r["id"], r["outcome"]) for r in records if "id" in r]
    assert outcomes == [("good", "passed"), ("deadly", "failed"), ("deadly once", "passed"), ("last", "passed")]
    assert said == ["the guest died (qemu ended): once more, for what remains"] * 3
    assert [r["event"] for r in records if "event" in r and r["event"] != "began"] == [*["booted"] * 4, "finished"]


def test_an_interrupt_ends_guests(share: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    event = threading.Event()
    event.set()
    monkeypatch.setattr(boot, "enough", event)
    assert watched(sleeper(share), share) == "interrupted"


def test_as_many_guests_as_were_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The third of two waits, says so, and has its turn when one ends."""
    monkeypatch.setattr(boot, "LOCK", tmp_path / "lock")
    monkeypatch.setattr(boot, "enough", threading.Event())
    said: list[str] = []
    inside = threading.Event()

    def third() -> None:
        with boot.turn(2, said.append):
            inside.set()

    with boot.turn(2, said.append):
        with boot.turn(2, said.append):
            assert said == []
            waiting = threading.Thread(target=third)
            waiting.start()
            assert not inside.wait(0.7)
        assert inside.wait(10)
        waiting.join()
    assert said == [f"waiting for another guest to end ({tmp_path / 'lock'})"]


def test_an_orderly_end(share: Path) -> None:
    assert watched(sleeper(share, "true"), share) == ""


def test_a_line_that_was_cut_off_is_left_out(share: Path) -> None:
    (share / "results.jsonl").write_text('{"event": "booted"}\n{"id": "a", "outc')
    assert boot.read(share / "results.jsonl") == [{"event": "booted"}]
    assert boot.read(share / "none") == []


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boot, "vng", lambda: "/bin/true")
    monkeypatch.setattr(fetch, "find", lambda name: None if name == "qemu-system-x86_64" else f"/bin/{name}")
    with pytest.raises(Problem, match=r"qemu-system-x86_64 is missing \(Debian: package qemu-system-x86\); sudo sh vm"):
        boot.check_tools()
    monkeypatch.undo()
    monkeypatch.setenv("OSMIA_VNG", "/no/such")
    monkeypatch.setenv("PATH", "/no/such")
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    monkeypatch.setattr(config, "REPO", Path("/no/such"))
    with pytest.raises(Problem, match=r"vng .* is missing"):
        boot.vng()


def test_no_kernel_of_that_name() -> None:
    command = [sys.executable, "-m", "vmtest", "--kernel", "2.6"]
    env = {"OSMIA_VNG": "/bin/true", "PATH": "/usr/bin:/bin:/usr/sbin"}
    done = subprocess.run(command, cwd=config.REPO, capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "no kernel 2.6" in done.stderr or "is missing" in done.stderr
