# SPDX-License-Identifier: Apache-2.0
"""Kernels from Debian's archive, unpacked into the cache.

apt does the work, with a state directory per suite, so that the machine's
own lists and packages are never touched and signatures are checked as
always.  The mirror is the one the machine itself uses.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from vmtest import config
from vmtest.problem import Problem

FALLBACK = {"debian": "http://deb.debian.org/debian", "debian-security": "http://deb.debian.org/debian-security"}
SETUP = "sudo sh vmtest/setup.sh installs what is needed"
_STAMP = "ready"
#: Modules that the guest loads to reach the host's files (9p over virtio, overlays over it) and its devices.
_EARLY = re.compile(
    r"/(9p|9pnet\w*|netfs|fscache|overlay|virtio\w*|failover|net_failover|vsock\w*|vmw_vsock_virtio\w*|loop|ext4|"
    r"mbcache|jbd2|crc16|crc32c\w*|dummy|veth)\.ko(\.xz|\.zst)?$"
)


@dataclass(frozen=True)
class Unpacked:
    """A kernel in the cache: what to boot, its release and its package's version."""

    vmlinuz: Path
    release: str
    package: str
    version: str


def sources() -> str:
    """The machine's own apt sources, whatever format they are in."""
    places = [Path("/etc/apt/sources.list"), *sorted(Path("/etc/apt/sources.list.d").glob("*"))]
    return "\n".join(p.read_text(errors="replace") for p in places if p.suffix in (".list", ".sources") and p.is_file())


def mirrors(text: str) -> dict[str, str]:
    """Archive name (``debian``, ``debian-security``) to address, from the text of apt sources."""
    found = dict(FALLBACK)
    seen: set[str] = set()
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        for address in re.findall(r"\b(?:https?|ftp|file|mirror\+\S+?):/\S+", line):
            name = address.rstrip("/").rpartition("/")[2]
            if name in found and name not in seen:
                seen.add(name)
                found[name] = address.rstrip("/")
    return found


class Suite:
    """apt confined to one suite."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / "apt" / name
        archive = "debian-security" if name.endswith("-security") else "debian"
        self.address = mirrors(sources())[archive]
        for part in ("lists/partial", "cache/archives/partial", "etc/preferences.d"):
            (self.folder / part).mkdir(parents=True, exist_ok=True)
        (self.folder / "status").touch()
        (self.folder / "sources.list").write_text(
            f"deb [arch=amd64 signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {self.address} {name} main\n"
        )

    def _apt(self, *command: str, cwd: Path | None = None) -> str:
        where = self.folder
        options = {
            "Dir::State": where, "Dir::State::lists": where / "lists", "Dir::State::status": where / "status",
            "Dir::Cache": where / "cache", "Dir::Etc::sourcelist": where / "sources.list",
            "Dir::Etc::sourceparts": "-", "Dir::Etc::preferences": "-",
            "Dir::Etc::preferencesparts": where / "etc/preferences.d", "APT::Architecture": "amd64",
            "APT::Architectures": "amd64", "APT::Sandbox::User": "", "Acquire::Languages": "none",
            "Acquire::Retries": "3", "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled": "false",
        }  # fmt: skip
        flags = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run(
            [command[0], "-q", *flags, *command[1:]], capture_output=True, text=True, timeout=900, cwd=cwd, check=False
        )
        if done.returncode:
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-3:]
            raise Problem(f"{' '.join(command[:2])} failed for {self.name} on {self.address}: {' '.join(last)}",
                          "see whether the mirror is reachable; --no-download uses what is cached")  # fmt: skip
        return done.stdout

    def update(self) -> None:
        self._apt("apt-get", "update")

    def newest(self, kernel: str) -> tuple[str, str]:
        """``(package, version)`` of its newest kernel of a series; empty if there is none."""
        series = re.escape(kernel)
        names = self._apt("apt-cache", "search", "--names-only", rf"^linux-image-{series}[.+~-].*-amd64$").split("\n")
        found = []
        for name in (line.split(" ")[0] for line in names if line):
            if re.search(r"-(cloud|rt)-amd64$", name):
                continue
            version = re.search(r"^Version: (\S+)", self._apt("apt-cache", "show", "--no-all-versions", name), re.M)
            if version:
                found.append((order(version[1]), name, version[1]))
        return max(found)[1:] if found else ("", "")

    def parts(self, package: str) -> list[str]:
        """The package and, where the image is split (from 7.2 on), those that hold the kernel and its modules."""
        text = self._apt("apt-cache", "show", "--no-all-versions", package)
        depends = re.search(r"^Depends: (.*)", text, re.M)
        names = re.findall(r"\blinux-(?:binary|modules)-[a-z0-9.+~-]+", depends[1] if depends else "")
        return [package, *dict.fromkeys(names)]

    def download(self, packages: list[str], into: Path) -> list[Path]:
        self._apt("apt-get", "download", *packages, cwd=into)
        return sorted(into.glob("*.deb"))


def order(version: str) -> list[tuple[int, str]]:
    """Sorts kernel package versions; enough for those, where numbers decide."""
    words = [(int(word), "") if word.isdigit() else (-1 if word == "~" else 0, word)
             for word in re.findall(r"\d+|~|[^\d~]+", version)]  # fmt: skip
    return [*words, (0, "")]  # the end comes after a tilde and before anything else


def cached(kernel: config.Kernel, folder: Path) -> Unpacked | None:
    """What is in the cache already."""
    stamp = folder / kernel.name / _STAMP
    if not stamp.is_file():
        return None
    vmlinuz, release, package, version = stamp.read_text().split("\n")[:4]
    place = folder / kernel.name / vmlinuz
    return Unpacked(place, release, package, version) if place.is_file() else None


def fetch(kernel: config.Kernel, folder: Path, say: object = None) -> Unpacked:
    """The newest kernel of the series, downloaded and unpacked unless the cache has it."""
    for tool, package in (("apt-get", "apt"), ("dpkg", "dpkg"), ("depmod", "kmod"), ("xz", "xz-utils"),
                          ("zstd", "zstd")):  # fmt: skip
        if not find(tool):
            raise Problem(f"{tool} is missing (Debian: package {package})", SETUP)
    tell = say if callable(say) else print
    best: tuple[list[tuple[int, str]], str, str, Suite] | None = None
    for name in kernel.suites:
        suite = Suite(name, folder)
        suite.update()
        package, version = suite.newest(kernel.name)
        if package and (best is None or order(version) > best[0]):
            best = (order(version), package, version, suite)
    if best is None:
        raise Problem(f"no linux-image-{kernel.name}*-amd64 in {', '.join(kernel.suites)}",
                      "see which suite has it now and say so in vmtest/config.py")  # fmt: skip
    _, package, version, suite = best
    have = cached(kernel, folder)
    if have and (have.package, have.version) == (package, version):
        return have
    tell(f"{kernel.name}: fetching {package} {version} from {suite.name}")
    return _unpack(kernel, folder, suite, package, version)


def _unpack(kernel: config.Kernel, folder: Path, suite: Suite, package: str, version: str) -> Unpacked:
    target = folder / kernel.name
    fresh = folder / f"{kernel.name}.new"
    for place in (fresh, target):
        shutil.rmtree(place, ignore_errors=True)
    fresh.mkdir(parents=True)
    for deb in suite.download(suite.parts(package), fresh):
        _run("dpkg", "-x", str(deb), str(fresh / "root"))
        deb.unlink()
    vmlinuz, modules, release = layout(fresh / "root")
    plain_modules(modules)
    _run(find("depmod") or "depmod", "-b", str(fresh / "root"), release)
    (fresh / _STAMP).write_text(f"{vmlinuz.relative_to(fresh)}\n{release}\n{package}\n{version}\n")
    fresh.rename(target)
    found = cached(kernel, folder)
    assert found is not None
    return found


def layout(root: Path) -> tuple[Path, Path, str]:
    """``(kernel image, modules, release)`` in an unpacked tree; puts all where vng looks for it.

    Before 7.2: ``boot/vmlinuz-RELEASE`` and ``lib/modules/RELEASE``; from 7.2
    on both are in ``usr/lib/modules/RELEASE``.
    """
    new = sorted(root.glob("usr/lib/modules/*/vmlinuz"))
    old = sorted(root.glob("boot/vmlinuz-*"))
    if not new and not old:
        raise Problem(f"no kernel image in {root}", "the packages are laid out in a new way: see vmtest/fetch.py")
    release = new[0].parent.name if new else old[0].name.removeprefix("vmlinuz-")
    if (root / "usr/lib/modules" / release).is_dir() and not (root / "lib").exists():
        (root / "lib").symlink_to("usr/lib")
    modules = root / "lib/modules" / release
    if not modules.is_dir():
        raise Problem(f"no modules of {release} in {root}", "the packages are laid out in a new way")
    return (new or old)[0], modules, release


def plain_modules(modules: Path) -> None:
    """Decompress the modules that are loaded before there is anything in the guest that could."""
    for path in sorted(modules.rglob("*.ko*")):
        if not _EARLY.search(str(path)):
            continue
        if path.suffix == ".xz":
            _run("xz", "-d", str(path))
        elif path.suffix == ".zst":
            _run("zstd", "-q", "-d", "--rm", str(path))


def find(command: str) -> str | None:
    """The command's path; also looks where only root's PATH does."""
    return shutil.which(command, path=os.environ.get("PATH", "/usr/bin:/bin") + ":/usr/sbin:/sbin")


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Problem(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
