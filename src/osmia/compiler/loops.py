# SPDX-License-Identifier: Apache-2.0
"""Which loops become calls of ``bpf_loop``, and what their bodies share with the function around them.

The verifier walks a plain loop round by round, within a budget of a million
instructions.  ``bpf_loop`` (kernel 5.17, commit e6f2dd0f8067) calls a function
for every round and the verifier walks that once.  So a loop whose rounds times
body is large becomes such a call; whether the kernel has it is a CO-RE
constant, so that one object serves both, and the fall-back is a plain loop
around the same function.

The body then is a function of its own.  A local that it shares with the code
around it, or that carries a value from one round to the next, lives in a
**frame**, a block of the outer function's stack whose address is passed
along; all other locals of the body are the callback's own, so that LLVM can
keep them in registers.
"""

from __future__ import annotations

from osmia.compiler import assigned, tir, walk

#: Rounds times nodes above which a loop becomes a call of ``bpf_loop``: a
#: node is about one instruction, and several such loops must fit the verifier's million.
LIMIT = 30_000
#: The most rounds of one call (BPF_MAX_LOOPS).
MAX_ROUNDS = 1 << 23
#: Instructions that a ``bpf_loop`` call itself costs the verifier, roughly.
_CALL_COST = 40
#: What a helper's call adds: it forgets registers, so that ways that differed before it stay apart after it.
_HELPER_COST = 30

LOOP_HELPER = 181
LOOP_ENUM = tir.KEnum("bpf_func_id", 4, False)
LOOP_ENUMERATOR = "BPF_FUNC_loop"
#: Something that a kernel has if its verifier walks a callback with all the values that it may meet (bb124da69c47).
_DEPTH = tir.KField("callback_depth", 0, 0, tir.KInt("u32", 4, False))
ALL_WALKED = tir.CoreField(tir.U64, (0, 0), tir.Access(tir.KStruct("bpf_func_state", "struct", 4), (_DEPTH,)), "exists")


class Frame:
    """The layout of a function's frame: byte offsets of its locals and of the loops' own slots."""

    def __init__(self) -> None:
        self.locals: dict[tir.Local, int] = {}
        self.starts: dict[int, int] = {}
        self.bases: dict[int, int] = {}
        self.returned = -1  # 1 once a body has run `return`
        self.value = -1  # and what it returned
        self.size = 0

    def add(self, size: int) -> int:
        """Room for ``size`` bytes, 8-byte aligned; its offset."""
        offset = self.size
        self.size += (size + 7) & ~7
        return offset


class Plan:
    """What :func:`plan` found out of a function: the identities of its big loops, their frame, and what is their own.

    ``own`` has, by a loop's identity, the locals that only its callback needs.
    """

    def __init__(self) -> None:
        self.big: set[int] = set()
        self.frame = Frame()
        self.own: dict[int, list[tir.Local]] = {}


Loop = (tir.For, tir.While)


class Planner:
    """Plans the functions of one module; sizes of callees are remembered."""

    def __init__(self, limit: int = LIMIT) -> None:
        self._limit = limit
        self._sizes: dict[tir.Func, int] = {}
        self._plans: dict[tir.Func, Plan] = {}

    def plan(self, func: tir.Func) -> Plan:
        """The plan of ``func``."""
        plan = self._plans.get(func)
        if plan is None:
            plan = self._plans[func] = Plan()
            self._sizes[func] = 0  # a cycle counts as nothing
            self._sizes[func] = self._size_of(func.body, plan)
            if plan.big:
                _lay_out(func, plan)
        return plan

    @property
    def uses_bpf_loop(self) -> bool:
        return any(p.big for p in self._plans.values())

    def _size_of(self, nodes: list[tir.Stmt] | list[walk.Node], plan: Plan) -> int:
        """How many instructions the verifier walks for ``nodes``, roughly."""
        return sum(self._size(node, plan) for node in nodes)

    def _size(self, node: walk.Node, plan: Plan) -> int:
        inner = 1 + self._size_of(list(walk.children(node)), plan)
        if isinstance(node, tir.Helper):
            return inner + _HELPER_COST
        if isinstance(node, tir.If):
            return inner * 5 // 4  # both ways are walked on to the loop's end, until they meet in the same state
        if isinstance(node, tir.Call):
            self.plan(node.func)
            return inner + self._sizes[node.func]
        if isinstance(node, (tir.Copy, tir.Zero)):
            return inner + node.size // 4
        if not isinstance(node, Loop) or node.bound is None:
            return inner
        if inner * node.bound <= self._limit and not getattr(node, "called", False):
            return inner * node.bound
        plan.big.add(id(node))
        return inner + _CALL_COST


def _lay_out(func: tir.Func, plan: Plan) -> None:
    """Give every local that a big loop shares a place in the frame."""
    frame = plan.frame
    homes = _homes(func, plan)
    returns = False
    for node in walk.walk(func.body):
        if not isinstance(node, Loop) or id(node) not in plan.big:
            continue
        inside: list[walk.Node] = list(node.body)
        fresh: list[tir.Local] = []
        if isinstance(node, tir.For):
            if not isinstance(node.start, tir.Const):
                frame.starts[id(node)] = frame.add(8)
            fresh.append(node.var)
        else:
            inside.insert(0, node.test)
        if (node.bound or 0) > MAX_ROUNDS:
            frame.bases[id(node)] = frame.add(8)
        carried = assigned.read_before(inside, fresh)
        own = plan.own[id(node)] = []
        for local in dict.fromkeys([*fresh, *walk.locals_of(inside)]):
            if id(node) not in homes[local]:  # a loop inside that becomes a callback, too, has it
                continue
            if homes[local] == {id(node)} and local not in carried:
                own.append(local)
            elif local not in frame.locals:
                frame.locals[local] = frame.add(local.type.size)
        returns = returns or any(isinstance(n, tir.Return) for n in walk.walk(inside))
    # A body that is left for good says so here, and the loops around it stop.
    if returns:
        frame.returned = frame.add(8)
        frame.value = frame.add(8)


def _homes(func: tir.Func, plan: Plan) -> dict[tir.Local, set[int]]:
    """For every local, where it is named: the innermost big loop's identity, or 0 for the function itself."""
    homes: dict[tir.Local, set[int]] = {param: {0} for param in func.params}
    stack: list[tuple[walk.Node, int]] = [(node, 0) for node in func.body]
    while stack:
        node, home = stack.pop()
        if isinstance(node, (tir.Get, tir.AddrOf, tir.Set)):
            homes.setdefault(node.local, set()).add(home)
        if not isinstance(node, Loop):
            stack += [(child, home) for child in walk.children(node)]
            continue
        within = id(node) if id(node) in plan.big else home
        if isinstance(node, tir.For):
            homes.setdefault(node.var, set()).add(within)
            stack += [(node.start, home), (node.stop, home)]
        else:
            stack.append((node.test, within))
        stack += [(child, within) for child in node.body]
    return homes
