# SPDX-License-Identifier: Apache-2.0
"""In the guest: make the surroundings a test machine has, and run pytest.

Called by ``guest.sh`` as ``python -m vmtest.guest SHARE JOB``; the job is a
JSON file in the shared directory, results are lines beside it.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

#: What tests use and Debian has as modules.
MODULES = ("loop", "dummy", "veth", "ext4", "null_blk")


def main() -> int:
    share, job = Path(sys.argv[1]), json.loads((Path(sys.argv[1]) / sys.argv[2]).read_text())
    for name in MODULES:
        arguments = ["nr_devices=0"] if name == "null_blk" else []
        subprocess.run(["modprobe", "-q", name, *arguments], check=False)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=False)
    os.chmod("/run/osmia-vm/tmp", 0o1777)
    env = {
        **os.environ, "TMPDIR": "/run/osmia-vm/tmp", "HOME": "/run/osmia-vm/tmp", "PYTHONPATH": f"{os.getcwd()}/src",
        "OSMIA_VM": "1", "OSMIA_VM_RESULTS": str(share / "results.jsonl"), "PYTHONDONTWRITEBYTECODE": "1",
        "OSMIA_TEST_PREBUILT": "/run/osmia-vm/prebuilt", "LC_ALL": "C.UTF-8", **job["set"],
    }  # fmt: skip
    command = [sys.executable, "-m", "pytest", "-q", "-p", "vmtest.plugin", "-p", "no:cacheprovider",
               "--basetemp=/run/osmia-vm/tmp/pytest", "-m", job["select"], *job["pytest"], *job["paths"]]  # fmt: skip
    env["PYTHONPATH"] += f":{os.getcwd()}"
    _facts(share)
    if job["command"]:
        status = _command(job["command"], env, share)
    else:
        status = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, check=False).returncode
    (share / "dmesg.txt").write_bytes(subprocess.run(["dmesg"], capture_output=True, check=False).stdout)
    (share / "status").write_text(f"{status}\n")
    return status


def _command(command: str, env: dict[str, str], share: Path) -> int:
    """One command in place of the tests; ``python`` and ``osmia`` are the tests' and this checkout's."""
    own = Path("/run/osmia-vm/tmp/bin")
    own.mkdir()
    (own / "osmia").write_text(f'#!/bin/sh\nexec {sys.executable} -m osmia.cli.main "$@"\n')
    (own / "osmia").chmod(0o755)
    where = f"{own}:{Path(sys.executable).parent}:{env['PATH']}"
    with (share / "output.txt").open("wb") as output:
        status = subprocess.run(["sh", "-c", command], env={**env, "PATH": where}, stdin=subprocess.DEVNULL,
                                stdout=output, stderr=subprocess.STDOUT, check=False).returncode  # fmt: skip
    _record(share, event="finished", status=status)
    return status


def _facts(share: Path) -> None:
    _record(share, event="booted", release=os.uname().release, version=os.uname().version, cpus=os.cpu_count())


def _record(share: Path, **words: object) -> None:
    with (share / "results.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(words) + "\n")


if __name__ == "__main__":
    sys.exit(main())
