# SPDX-License-Identifier: Apache-2.0
"""Who relocates field accesses, and against which types.

The kernel does it for free since 5.17.  Otherwise osmia does, against the
kernel's BTF or a file's; and on a kernel with no BTF at all a tracepoint's
record is described by tracefs, so programs that touch nothing else still run.
"""

from __future__ import annotations

from osmia.errors import NotSupported
from osmia.kernel import btf_source, features, tracefs
from osmia.obj.consts import BPF_CORE_TYPE_EXISTS

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from osmia.errors import UserError
    from osmia.load.assemble import Assembled
    from osmia.obj.btf import Btf
    from osmia.obj.relo_core import Relocator
    from osmia.obj.spec import ObjectSpec, ProgSpec


class Core:
    """Relocation of one object's programs.  Remembers the types, since its programs name the same ones."""

    __slots__ = ("_local", "_relocator", "_spec", "lacking")

    def __init__(self, spec: ObjectSpec) -> None:
        #: Program -> types that it uses and that nothing describes: all is well if it asked before using them.
        self.lacking: dict[str, list[str]] = {}
        self._spec = spec
        self._local: Btf | None = None
        self._relocator: Relocator | None = None

    @property
    def local(self) -> Btf:
        """The object's own types."""
        if self._local is None:
            from osmia.obj.btf import Btf

            self._local = Btf(self._spec.btf, name=self._spec.name)
        return self._local

    def kernel_does_it(self, whole: Assembled, btf_fd: int) -> bool:
        """Whether to leave relocation to the kernel.

        It needs the object's BTF, its own, and func_info or line_info
        (without those it ignores the records silently), and the user must not
        have named other types.  Whether the kernel is new enough shows when
        loading: E2BIG.
        """
        return bool(
            btf_fd and whole.func_info and btf_source.has_kernel_btf() and not btf_source.is_chosen()
            and not features.off("core_relo")
        )  # fmt: skip

    def relocate(self, whole: Assembled, prog: ProgSpec) -> str:
        """Relocate here, in place; a note for ``-v`` on what was used.

        NotSupported: there are no types to relocate against.
        """
        from osmia.obj.relo_core import Relocator

        target = btf_source.kernel_btf()
        if target is None:
            target = self._from_tracefs(whole, prog)
            Relocator(self.local, target).relocate(whole.insns, whole.core_relos, prog.name)
            return f"{prog.name}: fields relocated with the tracefs format of {prog.target}"
        relocator = self._against(target)
        relos, used = whole.core_relos, target.name
        records = self.renamed(whole, prog)
        if records:
            own = self._record(prog, records)
            about = [relo for relo in _not_of_existence(relos) if self._types([relo]) <= records]
            Relocator(self.local, own).relocate(whole.insns, about, prog.name)
            relos = [relo for relo in relos if relo not in about]
            used += f" and the {own.name}"
        relocator.relocate(whole.insns, relos, prog.name)
        return f"{prog.name}: fields relocated by osmia with {used}"

    def _against(self, target: Btf) -> Relocator:
        """The one relocator for all programs: it remembers what it has looked for."""
        if self._relocator is None:
            from osmia.obj.relo_core import Relocator

            self._relocator = Relocator(self.local, target)
        return self._relocator

    def renamed(self, whole: Assembled, prog: ProgSpec) -> set[str]:
        """The names of a tracepoint's record that the program uses and the kernel's types lack.

        Kernels differ in which events share a class, and so a structure; a
        module's types are not among the kernel's.  tracefs describes the
        record by its event, whatever its structure is called.
        """
        target = btf_source.kernel_btf() if prog.hook == "tracepoint" else None
        if target is None:
            return set()
        from osmia.obj import synth

        return {name for relo in _not_of_existence(whole.core_relos) for name in self._types([relo])
                if name.startswith(synth.PREFIX) and not self._against(target).knows(relo[1])}  # fmt: skip

    def _from_tracefs(self, whole: Assembled, prog: ProgSpec) -> Btf:
        from osmia.obj import synth
        from osmia.obj.btf import Btf
        from osmia.obj.relo_core import EXISTENCE

        # A question about what the kernel does not describe is answered with no; what is used after a yes is dead
        # code then, and the verifier knows better than we whether everything is.
        asked = self._types(relo for relo in whole.core_relos if relo[3] in EXISTENCE)
        needed = self._types(relo for relo in whole.core_relos if relo[3] not in EXISTENCE)
        records = {name for name in asked | needed if name.startswith(synth.PREFIX)}
        foreign = sorted(needed - records - {"trace_entry"})
        if (foreign and not asked - records) or (records and prog.hook != "tracepoint"):
            raise self.untyped(prog.name, foreign or sorted(records))
        if foreign:
            self.lacking[prog.name] = foreign
        if not records:
            return Btf(synth.btf_from_formats({}), name="nothing")
        return self._record(prog, records)

    def _record(self, prog: ProgSpec, names: set[str]) -> Btf:
        """Types with the record of the program's tracepoint as tracefs describes it, by each of ``names``."""
        from osmia.obj import synth
        from osmia.obj.btf import Btf

        category, _, event = prog.target.partition(":")
        text = tracefs.format(category, event)
        return Btf(synth.btf_from_formats(dict.fromkeys(names, text)), name=f"{prog.target} format")

    def untyped(self, name: str, types: list[str]) -> UserError:
        """The error for a program that needs types which nothing describes."""
        try:
            btf_source.find()
        except NotSupported as e:  # says which places were tried
            return e
        return NotSupported(f"needs type information of {', '.join(types)}", where=name)

    def _types(self, relos: Iterable[tuple[int, int, int, int]]) -> set[str]:
        """Names of the types that CO-RE records are about; a flavour (``name___old``) is what is before the ___."""
        return {self.local.get(self.local.resolve(relo[1])).name.split("___")[0] for relo in relos}

    def field_at(self, whole: Assembled, insn: int) -> str:
        """Name of what the CO-RE record at instruction number ``insn`` refers to; empty if there is none."""
        from osmia.obj.relo_core import describe

        for relo in whole.core_relos:
            if relo[0] // 8 == insn:
                return describe(self.local, relo)
        return ""


def _not_of_existence(relos: Iterable[tuple[int, int, int, int]]) -> list[tuple[int, int, int, int]]:
    """Without the questions whether there is a type, which may be another event's."""
    return [relo for relo in relos if relo[3] != BPF_CORE_TYPE_EXISTS]
