#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make osmia.pyz of a wheel, or of a directory into which it is installed: one file that any Python 3.10 runs.

usage: make_zipapp.py [WHEEL | DIRECTORY] [-o osmia.pyz]      (without: builds the wheel of this checkout)
"""

from __future__ import annotations

import argparse
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
#: What every member's time is, so that the same package gives the same file.
TIME = (1980, 1, 1, 0, 0, 0)


def members(source: Path) -> dict[str, bytes]:
    """The package's files by name."""
    if source.is_dir():
        files = [path for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        found = {path.relative_to(source).as_posix(): path.read_bytes() for path in files}
    else:
        with zipfile.ZipFile(source) as wheel:
            found = {name: wheel.read(name) for name in wheel.namelist()}
    package = {name: found[name] for name in sorted(found) if name.startswith("osmia/") and not name.endswith("/")}
    if not any(name.startswith("osmia/data/objects/") for name in package):
        sys.exit(f"make_zipapp: there are no compiled tools in {source}: it must be a wheel, or what one installs")
    return package


def write(package: dict[str, bytes], out: Path) -> None:
    """The archive, behind a line that makes it a program."""
    digest = hashlib.sha256()
    for name, data in package.items():
        digest.update(b"%s\0%d\0" % (name.encode(), len(data)) + data)
    main = (HERE / "zipapp_main.py").read_text().replace("@DIGEST@", digest.hexdigest()[:16])
    new = out.with_name(out.name + ".new")
    with open(new, "wb") as file:
        file.write(b"#!/usr/bin/env python3\n")
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
            for name, data in {"__main__.py": main.encode(), **package}.items():
                info = zipfile.ZipInfo(name, TIME)
                info.external_attr = 0o644 << 16
                info.compress_type = zipfile.ZIP_DEFLATED
                archive.writestr(info, data)
    new.chmod(0o755)
    new.replace(out)


def wheel_of_checkout(folder: str) -> Path:
    """A wheel of this checkout."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", folder, str(HERE.parent)]
    subprocess.run(command, check=True)
    return next(Path(folder).glob("osmia-*.whl"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Make osmia.pyz.")
    parser.add_argument("source", nargs="?", type=Path, help="a wheel, or a directory where it is installed")
    parser.add_argument("-o", "--output", type=Path, default=Path("osmia.pyz"))
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write(members(options.source or wheel_of_checkout(folder)), options.output)
    print(f"{options.output}: {os.path.getsize(options.output) / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
