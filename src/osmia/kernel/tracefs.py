# SPDX-License-Identifier: Apache-2.0
"""tracefs: numbers and record formats of tracepoints.

It is mounted at ``/sys/kernel/tracing`` since 4.1, or below debugfs; where it
is not and we may, it gets mounted, since perf_event_open needs the numbers.
"""

from __future__ import annotations

import os

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel.door import MACHINE, address, syscall

_PLACES = ("/sys/kernel/tracing", "/sys/kernel/debug/tracing")
_NR_MOUNT = {"x86_64": 165, "s390x": 21, "ppc64le": 21}.get(MACHINE, 40)
_found: list[str] = []


def _refused(action: str, cause: OSError, *, where: str = "") -> UserError:
    from osmia.kernel import caps  # error paths only: keeps it out of a warm start

    return caps.refused(action, cause, where=where)


def root() -> str:
    """The mount point.  NotPermitted if it is hidden from us, NotSupported if the kernel has none."""
    if _found:
        return _found[0]
    for place in _PLACES:
        if os.path.isdir(place + "/events"):
            _found.append(place)
            return place
    place = _PLACES[0]
    if os.path.isdir(place) and not os.access(place, os.R_OK | os.X_OK):
        raise _refused("read tracefs", PermissionError(13, "Permission denied", place))
    if os.path.ismount(place):
        # Lockdown in confidentiality mode leaves it empty (since 5.4).
        raise _refused("read tracefs", PermissionError(1, "it is empty", place))
    if os.path.isdir(place):
        _mount(place)
        if os.path.isdir(place + "/events"):
            _found.append(place)
            return place
    raise NotSupported(f"no tracefs at {' or '.join(_PLACES)}", fix="this kernel was built without CONFIG_FTRACE")


def _mount(place: str) -> None:
    target, kind = os.fsencode(place) + b"\0", b"tracefs\0"
    result = syscall(_NR_MOUNT, address(kind), address(target), address(kind), 0, 0)
    if result < 0:
        raise _refused("mount tracefs", OSError(-result, os.strerror(-result), f"mount -t tracefs {place}"))


def _plain(name: str) -> bool:
    return bool(name) and name[0] != "." and all(c.isalnum() or c in "_.-" for c in name)


def _read(category: str, name: str, file: str) -> str:
    path = f"{root()}/events/{category}/{name}/{file}"
    try:
        if not (_plain(category) and _plain(name)):
            raise FileNotFoundError
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except PermissionError as e:
        raise _refused("read tracefs", e, where=f"{category}:{name}") from None
    except (FileNotFoundError, NotADirectoryError):
        raise NotFound(f"no tracepoint {category}:{name} in this kernel", fix=suggest(category, name)) from None


def tracepoint_id(category: str, name: str) -> int:
    """The ``config`` of a perf tracepoint event.  NotFound (with near names), NotPermitted."""
    return int(_read(category, name, "id"))


def format(category: str, name: str) -> str:
    """The text of a tracepoint's ``format`` file.  NotFound (with near names), NotPermitted."""
    return _read(category, name, "format")


def exists(category: str, name: str) -> bool:
    """Whether the tracepoint is there.  NotPermitted when tracefs is hidden."""
    return _plain(category) and _plain(name) and os.path.exists(f"{root()}/events/{category}/{name}/id")


def _names(path: str) -> list[str]:
    try:
        return [name for name in os.listdir(path) if os.path.isdir(f"{path}/{name}")]
    except OSError:
        return []


def categories() -> list[str]:
    """Categories of tracepoints, sorted."""
    return sorted(_names(root() + "/events"))


def tracepoints(category: str) -> list[str]:
    """Names of a category's tracepoints, sorted; empty for an unknown category."""
    return sorted(_names(f"{root()}/events/{category}")) if _plain(category) else []


def suggest(category: str, name: str) -> str:
    """"did you mean sched:sched_switch?" or an empty string."""
    import difflib

    within = tracepoints(category)
    if within:
        near = [f"{category}:{found}" for found in difflib.get_close_matches(name, within, 3, 0.6)]
    else:
        close = difflib.get_close_matches(category, categories(), 3, 0.6)
        near = [f"{found}:{name}" for found in close if exists(found, name)]
        near = near or [f"{c}:{name}" for c in categories() if exists(c, name)][:3] or [f"{c}:*" for c in close]
    return f"did you mean {' or '.join(near)}?" if near else ""
