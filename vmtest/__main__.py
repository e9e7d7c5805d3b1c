# SPDX-License-Identifier: Apache-2.0
"""``python3 -m vmtest``: every kernel of the matrix, or those named, and the support matrix made from the results."""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from vmtest import boot, config, fetch, image, matrix, merge
from vmtest.problem import Problem

_PREPARING = threading.Lock()  # of the kernels' cache


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python3 -m vmtest", description="Run the tests on the kernels of the matrix.",
        epilog="Kernels and logs are kept in ~/.cache/osmia/vm (OSMIA_VM_CACHE). "
               "sudo sh vmtest/setup.sh installs what is needed.",
    )  # fmt: skip
    add = parser.add_argument
    add("--kernel", action="append", metavar="VERSION", help="only this kernel (may be given several times)")
    add("--native", action="store_true", help="run on this machine's own kernel, without a guest")
    add("--boot", action="append", choices=[b.name for b in config.BOOTS], help="only this kind of boot")
    add("-k", metavar="EXPR", default="", help="only tests that match (pytest's -k); results are then not kept")
    add("--list", action="store_true", help="show kernels and what is cached")
    add("--no-download", action="store_true", help="use the cached kernels as they are")
    add("--matrix", action="store_true", help="only make docs/support_matrix.md anew from the kept results")
    add("--again", action="store_true",
        help="only what failed in the kept results, or what is named; that then replaces the same tests' results")
    add("--rest", action="store_true", help="only what has no result yet or failed; what a run has got to is kept, "
                                            "also if it was broken off")
    add("--jobs", type=int, default=1, metavar="N", help="so many guests at once; each keeps about a CPU busy")
    add("--kvm", action="store_true", help="use the processor's virtualisation instead of emulation")
    add("--memory", default=config.MEMORY, metavar="SIZE", help=f"memory of a guest (default {config.MEMORY})")
    add("--cpus", type=int, default=config.CPUS, metavar="N", help=f"CPUs of a guest (default {config.CPUS})")
    add("--exec", default="", metavar="COMMAND",
        help="in place of the tests run this in the checkout's copy in the guest, by sh; what it prints is shown")
    add("paths", nargs="*", metavar="PATH", help="only these test files; results are then not kept")
    return parser.parse_args()


def _chosen(names: list[str] | None) -> list[config.Kernel]:
    known = {k.name: k for k in config.KERNELS}
    for name in names or []:
        if name not in known:
            raise Problem(f"no kernel {name} in the matrix", f"one of {', '.join(known)}")
    return [k for k in config.KERNELS if not names or k.name in names]


def _say(text: str) -> None:
    print(text, flush=True)


def _list() -> None:
    for kernel in config.KERNELS:
        have = fetch.cached(kernel, config.cache())
        _say(f"{kernel.name:5} {have.package + ' ' + have.version if have else 'not cached'}  "
             f"({', '.join(kernel.suites)})")  # fmt: skip


def _guests(wanted: list[config.Boot], args: argparse.Namespace) -> bool:
    """All the kernels that were asked for; whether all went well.

    The threads only wait for their guests; a Ctrl-C ends those first.
    """
    with ThreadPoolExecutor(max(1, args.jobs)) as pool:
        running = [pool.submit(_guest, kernel, wanted, args) for kernel in _chosen(args.kernel)]
        try:
            wait(running)
        except KeyboardInterrupt:
            boot.enough.set()
            raise
    outcomes = [one.result() for one in running]
    return all(outcomes)


def _again(kernel: str, one: config.Boot) -> config.Boot | None:
    """The same boot with what failed there only, all parameters of it; None if nothing did."""
    paths = dict.fromkeys(id.partition("[")[0] for id in merge.failed(kernel, one.name))
    return config.Boot(one.name, one.what, tuple(paths), one.select, one.append) if paths else None


def _guest(kernel: config.Kernel, wanted: list[config.Boot], args: argparse.Namespace) -> bool:
    """Everything for one kernel; whether all went well."""
    if boot.enough.is_set():
        return False
    folder = config.cache()
    with _PREPARING:
        unpacked = fetch.cached(kernel, folder) if args.no_download else fetch.fetch(kernel, folder, _say)
    if unpacked is None:
        raise Problem(f"{kernel.name} is not in the cache", "leave out --no-download")
    extra = ["-k", args.k] if args.k else []
    good = True
    for one in wanted:
        chosen: config.Boot | None = config.Boot(
            one.name, one.what, tuple(args.paths) or one.paths, one.select, one.append
        )  # fmt: skip
        if args.again and not args.paths:
            chosen = _again(kernel.name, one)
        if chosen is None:
            continue
        began = time.monotonic()
        told = f"{kernel.name} {one.name}: "
        _say(f"{told}{unpacked.package} {unpacked.version}")
        # A run of chosen tests has a directory of its own, so that several may wait for their turn.
        mine = f"-{os.getpid()}" if args.k or args.paths or args.exec else ""
        share = folder / "run" / f"{kernel.name}-{one.name}{mine}"
        _forget(folder / "run", f"{kernel.name}-{one.name}-*")
        say = lambda text, told=told: _say(told + text)  # noqa: E731
        ended = merge.settled(kernel.name, one.name) if args.rest else []
        job = boot.Job(chosen, extra, ended, args.exec, args.cpus, args.kvm, args.memory)
        records = boot.run(unpacked, job, share, jobs=args.jobs, say=say)
        if args.exec:
            good &= _shown(told, records, share / "output.txt")
            continue
        good &= _finish(kernel.name, one.name, unpacked.version, records, time.monotonic() - began, args)
        say(f"log: {share / 'serial.log'}")
    return good


def _shown(told: str, records: list[dict[str, Any]], output: Path) -> bool:
    """What the guest's command has printed; whether it ended well."""
    _say(output.read_text(errors="replace") if output.exists() else f"{told}no output")
    status = next((r["status"] for r in records if r.get("event") == "finished"), None)
    if status != 0:
        _say(f"{told}" + ("the guest died" if status is None else f"ended with status {status}"))
    return status == 0


def _forget(folder: Path, pattern: str) -> None:
    """Remove what runs of chosen tests have left, but for the last few."""
    old = sorted(folder.glob(pattern), key=lambda place: place.stat().st_mtime)
    for place in old[:-5]:
        shutil.rmtree(place, ignore_errors=True)


def _native(args: argparse.Namespace) -> bool:
    """The same tests, and those that guests leave out, on the running kernel (root needed)."""
    share = config.cache() / "run" / "native"
    share.mkdir(parents=True, exist_ok=True)
    results = share / "results.jsonl"
    results.unlink(missing_ok=True)
    one = (_again("native", config.BOOTS[0]) if args.again and not args.paths else None) or config.BOOTS[0]
    python = image.interpreter()
    env = {**os.environ, "PYTHONPATH": f"{config.REPO / 'src'}:{config.REPO}", "OSMIA_VM_RESULTS": str(results),
           **config.LIGHTER}  # fmt: skip
    command = [python, "-m", "pytest", "-q", "-p", "vmtest.plugin", "-p", "no:cacheprovider", "-m", "not lockdown",
               *(["-k", args.k] if args.k else []), *(args.paths or one.paths)]  # fmt: skip
    _say(f"native: {os.uname().release}: {shlex.join(command)}")
    began = time.monotonic()
    with (share / "serial.log").open("wb") as log:
        subprocess.run(command, env=env, cwd=config.REPO, stdout=log, stderr=log, check=False)
    records = boot.read(results)
    return _finish("native", one.name, os.uname().release, records, time.monotonic() - began, args)


def _finish(kernel: str, name: str, version: str, records: list[dict[str, Any]], seconds: float,
            args: argparse.Namespace) -> bool:  # fmt: skip
    tests = [r for r in records if "id" in r]
    failed = [r for r in tests if r["outcome"] == "failed"]
    told = f"{kernel} {name}: "
    for record in failed:
        _say(f"{told}FAILED {record['id']}\n    {last_line(record['why'])}")
    for record in records:
        if record.get("event") == "died":
            _say(f"{told}DIED: {record['why']}")
    counts = {word: sum(r["outcome"] == word for r in tests) for word in ("passed", "failed", "skipped")}
    _say(f"{told}{counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped in {seconds:.0f} s")
    ended = any(r.get("event") == "finished" for r in records)
    if (ended or args.rest) and _kept(args):
        merge.keep(kernel, name, version, records, again=args.again or args.rest,
                   paths=() if args.rest else args.paths)
    return ended and not failed and bool(tests)


def _kept(args: argparse.Namespace) -> bool:
    """Whether the results are such that they are kept."""
    return not args.k and not args.exec and (args.again or args.rest or not args.paths)


def last_line(text: str) -> str:
    """The line of a failure that says most: pytest marks it with an E."""
    marked = [line[1:].strip() for line in text.splitlines() if line.startswith("E ")]
    return (marked or text.strip().splitlines() or [""])[0][:200]


def main() -> int:
    args = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM):  # guests end with us, even where a shell has set these to be ignored
        signal.signal(number, signal.default_int_handler)
    try:
        if args.list:
            _list()
            return 0
        good = True
        if args.matrix:
            pass
        elif args.native:
            good = _native(args)
        else:
            boot.check_tools()
            boots = args.boot or (["plain"] if args.exec else [b.name for b in config.BOOTS])
            wanted = [b for b in config.BOOTS if b.name in boots]
            good = _guests(wanted, args)
        if _kept(args):
            matrix.write(config.MATRIX)
        return 0 if good else 1
    except Problem as e:
        print(f"vmtest: {e}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
