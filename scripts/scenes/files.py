# SPDX-License-Identifier: Apache-2.0
"""Scenes of the tools that look at calls on files."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from pathlib import Path

from script import Script

from scenes.stage import Scene, Stage

#: A small program that builds something: reads its sources, writes into a temporary file, and gives it a name at last.
BUILD = """
os.mkdir("out")
for n in range(40):
    fd = os.open("main.c", os.O_RDONLY)
    while os.read(fd, 4096):
        pass
    os.close(fd)
    fd = os.open("out/main.tmp", os.O_CREAT | os.O_WRONLY)
    for _ in range(5):
        os.write(fd, b"x" * 3000)
    os.fsync(fd)
    os.close(fd)
    os.rename("out/main.tmp", "out/main.o")
    fd = os.open(f"out/lock-{n}", os.O_CREAT | os.O_WRONLY)
    os.close(fd)
    time.sleep(0.05)
    os.unlink(f"out/lock-{n}")
os.unlink("out/main.o")
os.rmdir("out")
"""


class ScriptStage(Stage):
    """A program in a directory of its own, that is stopped until it is to be seen."""

    def __init__(self, work: str = BUILD, name: str = "build", before: str = "") -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="project-", dir="/var/tmp"))
        (self.directory / "main.c").write_bytes(b"x" * 10_000)
        self.script = Script(work, before=before, cwd=self.directory, name=name)
        self.names.update(pid=str(self.script.pid), directory=str(self.directory))

    def close(self) -> None:
        self.script.end()
        shutil.rmtree(self.directory)


class Output(ScriptStage):
    """The same with a directory for the output that is there from the start."""

    def __init__(self) -> None:
        super().__init__(BUILD.replace('os.mkdir("out")', "").replace('os.rmdir("out")', ""))
        (self.directory / "out").mkdir()


#: What an editor does with a file of which it keeps the version before.
EDIT = """
os.rename("main.c", "main.c~")
os.close(os.open("main.c", os.O_CREAT | os.O_WRONLY))
os.unlink(".main.c.swp")
os.rename("old", "new")
os.rmdir("new")
"""


def editor() -> ScriptStage:
    return ScriptStage(EDIT, "editor", before='open(".main.c.swp", "w").close()\nos.mkdir("old")')


#: A program looks for its configuration where it might be.
LOOK = """
for place in ("./server.conf", "/etc/server/server.conf", "/usr/local/etc/server.conf", "/etc/hosts"):
    os.path.exists(place)
"""
#: A data base makes sure of a transaction: journal, directory, data, everything.
SAVE = """
os.write(journal, b"x" * 5000)
os.fsync(journal)
os.fsync(here)
os.pwrite(data, b"x" * 100_000, 0)
os.fdatasync(data)
os.sync()
"""
OPEN = """
journal, data = [os.open(name, os.O_CREAT | os.O_WRONLY) for name in ("journal", "data")]
here = os.open(".", os.O_RDONLY)
"""
#: Shared memory: made, attached, left, removed, and looked for once more.
SHARE = """
libc.shmat.restype = ctypes.c_void_p
libc.shmat.argtypes, libc.shmdt.argtypes = [ctypes.c_int, ctypes.c_void_p, ctypes.c_int], [ctypes.c_void_p]
number = libc.shmget(0x78020001, 1 << 20, 0o1666)
address = libc.shmat(number, None, 0)
libc.shmdt(address)
libc.shmctl(number, 0, None)
libc.shmget(0x78020001, 1 << 20, 0o666)
"""


def looking() -> ScriptStage:
    return ScriptStage(LOOK, "server")


def saving() -> ScriptStage:
    return ScriptStage(SAVE, "database", before=OPEN)


def sharing() -> ScriptStage:
    return ScriptStage(SHARE, "server")


#: A mount by the newer calls, step by step.
NEWER = """
fs = call(430, b"tmpfs", 0)
call(431, fs, 1, b"size", b"10m", 0)
call(431, fs, 6, None, None, 0)
mount = call(432, fs, 1, 4)
call(429, mount, b"", -100, b"disk", 4)
"""
ALONE = """
libc.syscall.restype = ctypes.c_long
def call(number, *arguments):
    return libc.syscall(number, *[ctypes.c_long(a) if isinstance(a, int) else a for a in arguments])
libc.unshare(0x20000)
libc.mount(None, b"/", None, ctypes.c_ulong(0x44000), None)
os.mkdir("disk")
"""
#: A server hands a connection over to a worker, together with its log.
PASS = """
socket.send_fds(left, [b"take over"], [connection.fileno(), log])
socket.recv_fds(right, 10, 9)
"""
CONNECTED = """
left, right = socket.socketpair()
log = os.open("log", os.O_CREAT | os.O_WRONLY)
listening = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listening.getsockname())
connection, _ = listening.accept()
"""


def mounting() -> ScriptStage:
    return ScriptStage(NEWER, "mounter", before=ALONE)


def passing() -> ScriptStage:
    return ScriptStage(PASS, "server", before=CONNECTED)


class ShellStage(Stage):
    """A shell script."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.path = Path("/tmp/script")
        self.path.write_text(f"#!/bin/sh\n{text}\n")
        self.path.chmod(0o755)
        self.names["command"] = str(self.path)

    def close(self) -> None:
        self.path.unlink()


def mount_script() -> Stage:
    return ShellStage("mkdir -p /tmp/demo\nmount -t tmpfs -o size=10m,noexec demo /tmp/demo\n"
                      "mount -t ext5 demo /tmp/demo 2>/dev/null\numount /tmp/demo\nrmdir /tmp/demo")  # fmt: skip


def pipe_script() -> Stage:
    """One end of a pipe waits for the other."""
    return ShellStage("(sleep 0.5; echo result; sleep 0.2; echo another) | while read line; do :; done")


def nothing(_: Stage) -> None:
    """The tool starts what is to be seen."""


def syncing() -> None:
    """Writes that wait for the disk: O_SYNC."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        fd = os.open(f"{directory}/journal", os.O_CREAT | os.O_WRONLY | os.O_SYNC)
        for _ in range(10):
            os.write(fd, bytes(1 << 20))
        os.close(fd)


def go(stage: Stage) -> None:
    assert isinstance(stage, ScriptStage)
    stage.script.go()


SEARCH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

def copied() -> None:
    """From /dev/zero into /tmp, for two seconds and a half."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        subprocess.run(["timeout", "2.5", "dd", "if=/dev/zero", f"of={folder}/copy", "bs=64k", "count=4096"],
                       stderr=subprocess.DEVNULL, check=False)  # fmt: skip
        time.sleep(2)


SCENES = {
    "vfsstat": Scene("vfsstat 1 3", lambda _: time.sleep(3)),
    "vfsstat-pid": Scene("vfsstat -p {pid} 1 3", go, ScriptStage),
    "vfsstat-json": Scene("vfsstat --json -p {pid}", go, ScriptStage),
    "filetop": Scene("filetop -C -r 8 1 2", lambda _: time.sleep(2)),
    "filetop-directory": Scene("filetop -C --write-only -d {directory}/out -p {pid} 10", go, Output),
    "filetop-all": Scene("filetop -a -C -s writes -r 6 1 1", lambda _: time.sleep(1)),
    "filetop-json": Scene("filetop --json -p {pid} 10", go, ScriptStage),
    "dirtop": Scene("dirtop -C -d /tmp,/usr,/etc,/var,/dev 1 2", lambda _: copied()),
    "dirtop-project": Scene("dirtop -C -d {directory},{directory}/* -p {pid} 10", go, Output),
    "filegone": Scene("filegone -p {pid}", go, editor),
    "filegone-full": Scene("filegone -F -p {pid}", go, editor),
    "filelife": Scene("filelife -n build", go, lambda: ScriptStage(BUILD.replace("40", "5"))),
    "filelife-json": Scene("filelife -F --json -n build", go, lambda: ScriptStage(BUILD.replace("40", "2"))),
    "statsnoop": Scene(f"statsnoop -x -n bash -c 'env -i {SEARCH} bash --norc -c iconfig'", nothing),
    "statsnoop-failed": Scene("statsnoop -xts -p {pid}", go, looking),
    "syncsnoop": Scene("syncsnoop -p {pid}", go, saving),
    "syncsnoop-extended": Scene("syncsnoop -e -p {pid}", go, saving),
    "shmsnoop": Scene("shmsnoop -p {pid}", go, sharing),
    "shmsnoop-times": Scene("shmsnoop -T -n server", go, sharing),
    "mountsnoop": Scene("mountsnoop -c 'unshare -m sh {command}'", nothing, mount_script),
    "mountsnoop-parent": Scene("mountsnoop -P -n umount -c 'unshare -m sh {command}'", nothing, mount_script),
    "mountsnoop-newer": Scene("mountsnoop -p {pid}", go, mounting),
    "sofdsnoop": Scene("sofdsnoop -n server", go, passing),
    "sofdsnoop-times": Scene("sofdsnoop -T -p {pid}", go, passing),
    "fileslower": Scene("fileslower 5", lambda _: syncing()),
    "fileslower-all": Scene("fileslower -a 100 -n script -c {command}", nothing, pipe_script),
}
