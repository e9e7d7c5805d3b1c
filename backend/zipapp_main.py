# SPDX-License-Identifier: Apache-2.0
"""The ``__main__`` of osmia.pyz: unpacks the package once, and starts it from there.

A tool reads objects, man pages and sources as files, and imports from a zip
are slow; so the package is unpacked into the cache at the first start.  Root
runs what lies there: only a directory that belongs to the caller and that
nobody else can write is believed, and no link is followed into it.  Where no
such directory can be made, the package is unpacked for this one run, and a
child that outlives it removes it.
"""

import os
import stat
import sys
import zipfile

DIGEST = "@DIGEST@"  # of the package; the name of its directory


def places():
    """Where caches may be: the same as ``osmia.kernel.cache``, which is not unpacked yet, finds (a test compares)."""
    chosen = os.environ.get("OSMIA_CACHE")
    if chosen:
        return [chosen]
    xdg, home = os.environ.get("XDG_CACHE_HOME") or "", os.environ.get("HOME") or ""
    base, below = (xdg, "osmia") if xdg.startswith("/") else (home, ".cache/osmia")
    root = os.geteuid() == 0
    found = []
    if base.startswith("/") and not (root and owner(base) != 0):
        found.append(os.path.join(base, below))
    return [*found, "/var/cache/osmia"] if root else found


def owner(path):
    """The number of the user whom it belongs to, or -1."""
    try:
        return os.stat(path).st_uid
    except OSError:
        return -1


def trusted(path):
    """Whether a directory is the caller's own, not a link, and nobody else can write there."""
    try:
        info = os.lstat(path)
    except OSError:
        return False
    return stat.S_ISDIR(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022


def unpack(path):
    """Everything but this module into the new directory ``path``."""
    os.mkdir(path, 0o700)
    with zipfile.ZipFile(os.path.dirname(os.path.abspath(__file__))) as package:
        package.extractall(path, [name for name in package.namelist() if name.startswith("osmia/")])


def remove(path):
    """A directory and what is in it, as far as that is possible."""
    import shutil

    shutil.rmtree(path, ignore_errors=True)


def kept():
    """The unpacked package in a cache, unpacked now if need be; empty if there can be none."""
    for place in places():
        path = os.path.join(place, "package-" + DIGEST)
        if trusted(place) and trusted(path):
            return path
        new = f"{path}.{os.getpid()}"
        try:
            os.makedirs(place, 0o700, exist_ok=True)
            if not trusted(place):
                continue
            unpack(new)
            os.rename(new, path)
        except OSError:
            remove(new)
        if trusted(path):  # it may be another start's, which came first
            return path
    return ""


def for_once():
    """The package in a directory that goes when this process does."""
    import signal
    import tempfile

    path = os.path.join(tempfile.mkdtemp(prefix="osmia-"), "package")
    try:
        unpack(path)
    except OSError:
        remove(os.path.dirname(path))
        raise
    alive, mine = os.pipe()
    if os.fork() == 0:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        os.close(mine)
        os.read(alive, 1)
        remove(os.path.dirname(path))
        os._exit(0)
    os.close(alive)
    return path


def start():
    """Run the command."""
    try:
        path = kept() or for_once()
    except OSError as e:
        sys.exit(f"osmia: the package cannot be unpacked: {e.filename or ''}: {e.strerror}; make room there, or set "
                 "OSMIA_CACHE to a directory of your own")  # fmt: skip
    sys.path[0] = path
    from osmia.cli.main import entry

    entry()


if sys.version_info < (3, 10):  # noqa: UP036 - it is any Python that runs this
    sys.exit("osmia: Python 3.10 or later is needed")
start()
