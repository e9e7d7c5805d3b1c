# SPDX-License-Identifier: Apache-2.0
"""One boot: qemu through vng, watched so that a guest that hangs never hangs the run.

As many guests run at a time on a machine as are asked for (locks in the
temporary directory): an emulated one keeps a CPU busy, and two on one CPU
slow each other beyond their timeouts.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from vmtest import config, fetch, image
from vmtest.problem import Problem

HERE = Path(__file__).resolve().parent
LOCK = Path(tempfile.gettempdir()) / "osmia-vm.lock"
#: Set to end all guests of this process.
enough = threading.Event()
_preparing = threading.Lock()  # of the archives that all guests share


@dataclass(frozen=True)
class Job:
    """What a guest does: the tests of ``boot`` but those that have ``ended`` before, or a ``command`` instead."""

    boot: config.Boot
    pytest: list[str] = field(default_factory=list)
    ended: list[str] = field(default_factory=list)
    command: str = ""
    cpus: int = config.CPUS
    kvm: bool = False
    memory: str = config.MEMORY


def vng() -> str:
    """The vng command: ``$OSMIA_VNG``, beside this Python, in the project's .venv, or in PATH."""
    places = [os.environ.get("OSMIA_VNG", ""), str(Path(sys.executable).parent / "vng"),
              str(config.REPO / ".venv/bin/vng"), shutil.which("vng") or ""]  # fmt: skip
    for place in places:
        if place and os.access(place, os.X_OK):
            return place
    raise Problem("vng (virtme-ng) is missing", fetch.SETUP)


def check_tools() -> None:
    """Raise Problem for the first thing that is missing."""
    vng()
    for tool, package in (("qemu-system-x86_64", "qemu-system-x86"), ("busybox", "busybox-static"), ("depmod", "kmod"),
                          ("tar", "tar")):  # fmt: skip
        if not fetch.find(tool):
            raise Problem(f"{tool} is missing (Debian: package {package})", fetch.SETUP)


@contextmanager
def turn(jobs: int, say: Callable[[str], None]) -> Iterator[None]:
    """Wait until fewer than ``jobs`` guests run on this machine."""
    with ExitStack() as opened:
        files = [opened.enter_context(Path(f"{LOCK}{number or ''}").open("a")) for number in range(jobs)]
        told = False
        while not any(_taken(file) for file in files):
            if not told:
                say(f"waiting for another guest to end ({LOCK})")
                told = True
            if enough.wait(0.5):
                raise Problem("interrupted")
        yield


def _taken(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def run(kernel: fetch.Unpacked, job: Job, share: Path, *, jobs: int, say: Callable[[str], None]
        ) -> list[dict[str, Any]]:  # fmt: skip
    """Boot ``kernel``, do the job, and give the result lines.

    ``share`` is emptied first and holds everything afterwards: the serial
    log, the results, the kernel's messages.  Problem: the guest did not come
    up.  One that dies later is booted again for what remains; results without
    a "finished" line are those of a guest that died too often.
    """
    with turn(jobs, say):
        command, env = _prepare(kernel, job, share)
        (share / "results.jsonl").write_text("".join(json.dumps({"before": True, "id": id}) + "\n" for id in job.ended))
        for left in reversed(range(config.BOOTS_AT_MOST)):
            why = _booted(command, env, share, say)
            if enough.is_set() or not left or not died(share / "results.jsonl"):
                break
            say(f"the guest died ({why or 'qemu ended'}): once more, for what remains")
    for big in ("python.tar", "tree.tar", "prebuilt.tar"):
        (share / big).unlink(missing_ok=True)
    records = read(share / "results.jsonl")
    if not any(r.get("event") == "booted" for r in records):
        tail = (share / "serial.log").read_text(errors="replace").strip().splitlines()[-5:]
        raise Problem(f"{kernel.release} did not come up ({why or 'qemu ended'}): {' | '.join(tail)}",
                      f"the whole log is {share / 'serial.log'}")  # fmt: skip
    if why:
        records.append({"event": "died", "why": why})
    return [record for record in records if "before" not in record]


def _booted(command: list[str], env: dict[str, str], share: Path, say: Callable[[str], None]) -> str:
    """One boot, to its end; empty, or why it was given up."""
    with (share / "serial.log").open("ab") as log:
        process = subprocess.Popen(
            ["nice", "-n", "19", *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=env,
            start_new_session=True, cwd=config.REPO,
        )  # fmt: skip
        try:
            return _watch(process, share, say)
        finally:
            _end(process)


def died(results: Path) -> bool:
    """Whether a guest that came up has not come to its end.

    The test that it died in gets another chance; it has failed if the guest has died in it before.
    """
    records = read(results)
    if not any(r.get("event") == "booted" for r in records) or any(r.get("event") == "finished" for r in records):
        return False
    ended = {r["id"] for r in records if "id" in r}
    began = [r["test"] for r in records if r.get("event") == "began" and r["test"] not in ended]
    with results.open("a", encoding="utf-8") as file:
        file.write("\n")  # the last line may be half a one
        if began and began.count(began[-1]) > 1:
            lost = {"id": began[-1], "outcome": "failed", "why": "the guest died in it, twice", "seconds": 0}
            file.write(json.dumps(lost) + "\n")
    return True


def _prepare(kernel: fetch.Unpacked, job: Job, share: Path) -> tuple[list[str], dict[str, str]]:
    """Fill the shared directory; the command that boots the guest, and its environment."""
    shutil.rmtree(share, ignore_errors=True)
    share.mkdir(parents=True)
    with _preparing:
        archive, python = image.python_archive(config.cache())
    os.link(archive, share / "python.tar")
    image.tree_archive(share / "tree.tar")
    image.prebuild(share / "prebuilt.tar", python)
    boot = job.boot
    told = {"set": {**config.LIGHTER, "OSMIA_TEST_PATIENCE": str(1 if job.kvm else config.PATIENCE)},
            "select": boot.select, "pytest": job.pytest, "paths": list(boot.paths),
            "command": job.command}  # fmt: skip
    (share / "job.json").write_text(json.dumps(told))
    shutil.copy(HERE / "guest.sh", share / "guest.sh")
    inside = " ".join(["sh", str(share / "guest.sh"), str(share), str(config.REPO), python, "job.json"])
    command = [
        vng(), "--run", str(kernel.vmlinuz), *([] if job.kvm else ["--disable-kvm"]), "--cpus", str(job.cpus),
        "--memory", job.memory, f"--rwdir={share}", *([f"--append={boot.append}"] if boot.append else []),
        "-v", "--", inside,
    ]  # fmt: skip
    return command, {**os.environ, "PATH": f"{Path(vng()).parent}:{os.environ.get('PATH', '')}:/usr/sbin:/sbin"}


def _watch(process: subprocess.Popen[bytes], share: Path, say: Callable[[str], None]) -> str:
    """Wait for the guest's end; empty, or why it was given up."""
    began = changed = time.monotonic()
    results, output = share / "results.jsonl", share / "output.txt"
    before = _size(results)
    size, told = before, 0
    while process.poll() is None:
        if enough.wait(0.5):
            return "interrupted"
        now = time.monotonic()
        grown = _size(results) + _size(output)  # a command shows nothing else
        if grown != size:  # what a kernel in trouble prints is no sign of life
            size, changed = grown, now
        done = results.read_bytes().count(b'{"id"') if _size(results) else 0
        if done >= told + 25:
            told = done
            say(f"{done} tests after {now - began:.0f} s")
        if (share / "status").exists():
            # Some guests do not power off; what is wanted is there.
            if now - changed > 20:
                return ""
        elif grown == before and now - began > config.BOOT_SECONDS:
            return f"no sign of life after {config.BOOT_SECONDS} s"
        elif now - changed > config.SILENT_SECONDS:
            return f"silent for {config.SILENT_SECONDS} s"
        elif now - began > config.RUN_SECONDS:
            return f"not done after {config.RUN_SECONDS} s"
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _end(process: subprocess.Popen[bytes]) -> None:
    """End qemu and everything that was started with it: the process group is its own."""
    if process.poll() is None:
        for sig, seconds in ((signal.SIGTERM, 5), (signal.SIGKILL, 10)):
            with suppress(ProcessLookupError, subprocess.TimeoutExpired):
                os.killpg(process.pid, sig)
                process.wait(seconds)
                return


def read(path: Path) -> list[dict[str, Any]]:
    """Result lines; a last one that was cut off is left out."""
    found = []
    for line in path.read_text(errors="replace").splitlines() if path.exists() else []:
        with suppress(ValueError):
            found.append(json.loads(line))
    return found
