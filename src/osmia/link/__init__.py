# SPDX-License-Identifier: Apache-2.0
"""Programs meet their hooks: one module per hook, loaded when it is needed.

Each has ``attach(prog, target, **options) -> Link``.
"""

from __future__ import annotations

from osmia.errors import NotSupported

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from osmia.link.base import Link
    from osmia.load.program import LiveProg
    from osmia.obj.spec import ProgSpec

#: hook (as :attr:`ProgSpec.hook` names it) -> module of this package
HOOKS = {
    "tracepoint": "tracepoint",
    "raw_tracepoint": "raw_tracepoint",
    "tp_btf": "tp_btf",
    "perf_event": "perf_event",
    "iter": "iter",
    "kprobe": "kprobe",
    "kretprobe": "kretprobe",
    "kprobe_multi": "kprobe_multi",
    "kretprobe_multi": "kretprobe_multi",
    "fentry": "fentry",
    "fexit": "fentry",
    "fmod_ret": "fentry",
    "lsm": "lsm",
    "uprobe": "uprobe",
    "uretprobe": "uprobe",
    "uprobe_multi": "uprobe",
    "uretprobe_multi": "uprobe",
    "usdt": "usdt",
    "socket": "socket_filter",
    "xdp": "xdp",
    "tcx": "tc",
    "tc": "tc",
}


def attach(prog: LiveProg, spec: ProgSpec | None = None, **options: Any) -> Link:
    """Attach a loaded program to what its spec (default: its own) names.

    ``options`` are the hook's: see ``attach`` of its module.  ``target``
    among them overrides the spec's.  Raises NotFound (with near names),
    NotPermitted, NotSupported.
    """
    spec = spec or prog.spec
    module = HOOKS.get(spec.hook)
    if module is None:
        known = ", ".join(HOOKS)
        raise NotSupported(f"programs for {spec.hook or spec.section} cannot be attached", where=prog.name,
                           fix=f"hooks that can be: {known}")  # fmt: skip
    target = options.pop("target", spec.target)
    hook: Any = __import__(f"osmia.link.{module}", fromlist=["attach"])
    link: Link = hook.attach(prog, target, **options)
    return link
