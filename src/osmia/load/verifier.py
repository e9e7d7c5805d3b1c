# SPDX-License-Identifier: Apache-2.0
"""What the verifier meant: one line, the Python line, and advice.

A log may be megabytes of register states; what the author needs is its last
sentence, the source line that the rejected instruction came from, and what to
do about it.  Each pattern below stands under the log line that it matches.
"""

from __future__ import annotations

from osmia.errors import VerifierError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

#: ``(pattern, cause, advice)``; \1 in the texts is the pattern's first group.  First match wins.
_CAUSES: tuple[tuple[str, str, str], ...] = (
    # R0 invalid mem access 'map_value_or_null'
    (r"R\d+ invalid mem access '(?:map_value|mem|ringbuf_mem|sock|ptr|[a-z_]+)_or_null'?",
     "a value that may be absent is used as if it were there",
     "check it for None first (a map element may be missing, a ring buffer may be full)"),
    # R1 invalid mem access 'scalar'   (5.10: 'inv')
    (r"R\d+ invalid mem access '(?:scalar|inv)'",
     "a plain number is used as an address",
     "memory of the kernel or of a process is read with read_kernel() or read_user() here"),
    # The function do_mmap has 8 arguments. Too many.
    (r"The function (\w+) has (\d+) arguments. Too many",
     r"\1() has more arguments (\2) than this kernel's fentry can pass on", "use a kprobe on it"),
    # bpf_modify_return_test() is not modifiable
    (r"(\w+)\(\) is not modifiable", r"\1() does not let its result be changed",
     "fmod_ret works on security_...() and on what allows error injection (CONFIG_FUNCTION_ERROR_INJECTION)"),
    # The function compat_sys_open return type unknown / arg0 type ... is unsupported
    (r"The function (\w+) (?:arg\d+|return) type .*unsupported",
     r"\1() has an argument or result of a kind that this kernel's fentry cannot pass on", "use a kprobe on it"),
    # R8 invalid mem access 'ctx' / 'fp' ...
    (r"R\d+ invalid mem access '(\w+)'", r"memory of kind '\1' is accessed in a way that is not allowed", ""),
    # R1 pointer arithmetic on map_value_or_null prohibited, null-check it first
    (r"R\d+ pointer arithmetic on (\w+) prohibited, null-check it first",
     "a value that may be absent is used as if it were there", "check it for None first"),
    # R0 pointer arithmetic on ctx prohibited
    (r"R\d+ (?:pointer arithmetic|bitwise operator \S+) on (\w+)(?: pointer)? prohibited",
     r"arithmetic on a pointer of kind '\1' is not allowed", "compute with numbers, not with addresses"),
    # unknown func bpf_loop#181; without a name, and for what CO-RE leaves behind, see _unknown_call
    (r"(?:unknown|invalid) func (\w+)#(\d+)", r"helper \1 (number \2) is not known here",
     "this kernel or this program type does not have it"),
    # program of this type cannot use helper bpf_get_stack#67
    (r"program of this type cannot use helper (\w+)#\d+", r"helper \1 is not allowed in this kind of program",
     "use another hook, or another way to the same fact"),
    # cannot call GPL-restricted function from non-GPL compatible program
    (r"cannot call GPL-restricted function", "a helper that only GPL-compatible programs may call",
     'the object\'s license must be "GPL" or compatible with it'),
    # combined stack size of 2 calls is 560. Too large
    (r"combined stack size of (\d+) calls is (\d+)", r"\2 bytes of stack in \1 nested functions; 512 are allowed",
     "keep large values in a map or write them straight into a ring buffer record"),
    # invalid write to stack R10 off=-520 size=8   /   invalid stack type R1 off=-520 access_size=8
    (r"invalid (?:write to |read from |(?:zero-sized )?indirect access to )?stack(?: type)? R\d+ off=(-?\d+)",
     r"stack access at offset \1 is out of bounds; there are 512 bytes",
     "keep large values in a map or write them straight into a ring buffer record"),
    # invalid indirect read from stack R2 off -16+4 size 8   /   invalid read from stack R10 off -8+0 size 8
    (r"invalid (?:indirect )?read from stack", "bytes of the stack are read that were never written",
     "set every byte, padding included, before passing it on"),
    # Unreleased reference id=2 alloc_insn=7
    (r"Unreleased reference id=\d+ alloc_insn=(\d+)",
     "something acquired (a ring buffer record, a socket) is not released on every path",
     "submit or discard the record before every return"),
    # infinite loop detected at insn 4
    (r"infinite loop detected at insn (\d+)", "a loop without a visible end",
     "give it a constant bound: for i in range(100)"),
    # back-edge from insn 3 to 1
    (r"back-edge from insn (\d+) to \d+", "a loop, which this kernel does not allow in this program",
     "give it a constant bound, so that it can be unrolled"),
    # BPF program is too large. Processed 1000001 insn   /   The sequence of 8193 jumps is too complex.
    (r"BPF program is too large\. Processed (\d+) insn", r"too complex: gave up after \1 instructions",
     "use fewer iterations and branches inside loops, or split the work between probes"),
    (r"The sequence of (\d+) jumps is too complex", r"too complex: \1 jumps in a row",
     "use fewer branches inside loops"),
    # dereference of modified ctx ptr R1 off=8 disallowed
    (r"dereference of modified ctx ptr", "a context field is reached by a computed address",
     "read the field into a variable before the branch or loop that needs it"),
    # variable ctx access var_off=(0x0; 0xf8) size=8
    (r"variable ctx access", "the context is indexed by a value that is not constant", "read each field by its name"),
    # invalid bpf_context access off=0 size=8
    (r"invalid bpf_context access off=(\d+) size=(\d+)",
     r"\2 bytes at offset \1 of the context are not readable here",
     "this program type does not offer that field (or the tracepoint has fewer arguments)"),
    # invalid access to map value, value_size=8 off=8 size=8
    (r"invalid access to map value, value_size=(\d+) off=(-?\d+) size=(\d+)",
     r"\3 bytes at offset \2 of a map value that has \1 bytes", "check the index against the length first"),
    # invalid access to memory, mem_size=16 off=16 size=8
    (r"invalid access to memory, mem_size=(\d+) off=(-?\d+) size=(\d+)",
     r"\3 bytes at offset \2 of memory that has \1 bytes", "check the index against the length first"),
    # R2 min value is negative, either use unsigned or 'var &= const'
    (r"R\d+ min value is negative", "a length or index that may be negative",
     "make it unsigned, or check that it is at least 0"),
    # R2 unbounded memory access, use 'var &= const' or 'if (var < const)'
    (r"R\d+ unbounded memory access", "a length or index without an upper bound", "check it against a constant first"),
    # R1 max value is outside of the allowed memory range
    (r"R\d+ (?:min|max) value is outside of the allowed memory range", "an index that may lie outside of the memory",
     "check it against the length first"),
    # math between map_value pointer and register with unbounded min value is not allowed
    (r"math between (\w+) pointer and register with", r"an index into \1 that has no bounds",
     "check it against the length first: 0 <= i < length"),
    # write into map forbidden, value_size=4 off=0 size=4
    (r"write into map forbidden", "a write to a constant (an option)", "options cannot change once loaded"),
    # cannot pass map_type 27 into func bpf_map_lookup_elem#1
    (r"cannot pass map_type (\d+) into func (\w+)#\d+", r"helper \2 does not work on maps of type \1", ""),
    # invalid zero-sized read
    (r"invalid zero-sized read", "a helper is given no memory where it wants some",
     "is that operation meant for this kind of map?"),
    # access beyond struct task_struct at off 9999 size 8   /   access beyond the end of member ...
    (r"access beyond (?:struct|the end of member) (\w+)", r"a read beyond the end of \1", ""),
    # R0 !read_ok
    (r"R\d+ !read_ok", "a value is used that was never set", "set the variable on every path before its use"),
    # R1 type=scalar expected=fp, pkt, ...
    (r"R(\d) type=(\S+) expected=(\w+)", r"argument \1 of a helper is of kind \2, where \3 is wanted", ""),
    # Possibly NULL pointer passed to trusted arg0   /   R1 is ptr_or_null... must be non-NULL
    (r"Possibly NULL pointer passed", "a value that may be absent is passed on", "check it for None first"),
    # div by zero   (5.10 and later: only for constants)
    (r"div by zero", "a division by the constant 0", ""),
    # At program exit the register R0 has smin=5 smax=5 should have been in [0, 1]
    (r"At program exit the register R0 .* should have been in (.*)", r"the return value must be in \1", ""),
    # unreachable insn 5
    (r"unreachable insn (\d+)", r"instruction \1 can never be reached", ""),
    # invalid BTF_ID / attach_btf_id 5 is not a function
    (r"attach_btf_id \d+ (?:is not|points to)", "what it attaches to is of the wrong kind", ""),
)  # fmt: skip

#: imm of the call that the relocation of a missing field leaves behind (kernel/bpf/relo_core.c, libbpf the same).
_POISON = 195896080

_BY_ERRNO = {
    7: ("too many instructions", "the limit is a million for root, 4096 for others"),
    22: ("this kind of program or attachment is not known to the kernel", ""),
    28: ("the verifier's log did not fit", ""),
}


class Places:
    """Source lines by instruction number: ``lines`` is ``(byte offset, file, line number, text)``, ascending."""

    __slots__ = ("_lines",)

    def __init__(self, lines: list[tuple[int, str, int, str]]) -> None:
        self._lines = lines

    def at(self, insn: int) -> str:
        """``file:line: text`` of instruction number ``insn``; empty if unknown."""
        best = None
        for entry in self._lines:
            if entry[0] > insn * 8:
                break
            best = entry
        if best is None:
            return ""
        _, file, number, text = best
        return f"{file}:{number}: {text.strip()}" if text.strip() else f"{file}:{number}"


def is_complete(log: str) -> bool:
    """Whether the log has its end, which is where the reason stands."""
    return "\nprocessed " in log[-400:]


def explain(
    log: str, number: int, *, name: str, places: Places | None = None, field: Callable[[int], str] | None = None
) -> VerifierError:
    """Make the error for a rejected program ``name``.

    ``number`` is the errno, ``places`` finds source lines, ``field`` names
    the CO-RE relocation at an instruction number (may return "").
    """
    sentence, what, fix, at = _cause(_sentences(log), field, _last_insn(log))
    if not what:
        what, fix = _BY_ERRNO.get(number, (f"refused without a word (errno {number})", ""))
    # Some complaints are about the program as a whole: then its first line stands for it.
    where = (places.at(at) if places and at is not None else "") or _annotated(log) or (places.at(0) if places else "")
    quoted = f" [{sentence}]" if sentence and sentence != what else ""
    return VerifierError(f"the kernel rejects program {name}: {what}{quoted}", where=where, fix=fix, log=log)


def read_by_helper(log: str) -> bool:
    """Whether what the log complains of last is a helper that reads kernel memory."""
    import re

    return bool(re.search(r"(?:func|helper) bpf_probe_read(?:_kernel)?(?:_str)?#\d+", "\n".join(_sentences(log)[-4:])))


def locked_down(error: VerifierError, name: str) -> VerifierError:
    """The same error where lockdown is the reason: helpers that read kernel memory do not exist for programs then."""
    what = f"the kernel rejects program {name}: it reads kernel memory, which lockdown=confidentiality forbids"
    return VerifierError(what, where=error.where, fix="boot without lockdown, or without secure boot", log=error.log)


def _cause(
    lines: list[str], field: Callable[[int], str] | None, insn: int | None
) -> tuple[str, str, str, int | None]:
    """``(the log's sentence, what it means, advice, instruction number)``."""
    import re

    # A message may take a few lines; the most telling one is the pattern that stands first.
    lines = lines[-4:]
    for line in lines:
        match = re.search(r"func unknown#(\d+)", line)
        if match:
            what, fix = _unknown_call(int(match.group(1)), field(insn) if field and insn is not None else "")
            return "", what, fix, insn
    for pattern, what, fix in _CAUSES:
        for line in lines:
            match = re.search(pattern, line)
            if match:
                named = re.search(r"(?:alloc_insn=|at insn |from insn |unreachable insn )(\d+)", line)
                return line, match.expand(what), fix, int(named.group(1)) if named else insn
    return "", lines[-1] if lines else "", "", insn


def _unknown_call(number: int, field: str) -> tuple[str, str]:
    """``invalid func unknown#250``: a helper that this kernel lacks, or a relocation that found nothing."""
    if number == _POISON:
        what = f"this kernel has no {field}" if field else "this kernel lacks a field or type that is used here"
        return what, "guard it with exists(...), or use what this kernel has instead"
    from osmia.obj.consts import helper_name

    known = helper_name(number)
    label = f"helper number {number}" if "#" in known else f"helper bpf_{known}"
    return f"{label} is not known here", "this kernel does not have it"


def _sentences(log: str) -> list[str]:
    """The log's lines that say something: neither states, instructions, source, nor statistics."""
    import re

    noise = re.compile(
        r"\d+: |;|processed \d+ insns|verification time|stack depth|from \d+ to \d+|mark_precise|regs=|last_idx|"
        r"first_idx|parent |R\d+(_\w+)?=|func#\d+ @|caller:|callee:|frame\d+:|propagating|peak_states|"
        r"cur state:|old state:|returning from callee|to caller at|Func#\d+ |Validating |CO-RE relocating|arg#\d|"
        r"live regs|reg type unsupported for arg|$"
    )
    return [line.strip() for line in log.splitlines() if not noise.match(line.strip())]


def _last_insn(log: str) -> int | None:
    """Number of the last instruction that the verifier looked at."""
    import re

    numbers = re.findall(r"^(\d+): (?:\([0-9a-f]{2}\)|R\d)", log, re.MULTILINE)
    return int(numbers[-1]) if numbers else None


def _annotated(log: str) -> str:
    """The last source annotation, ``; text @ file:line`` since 6.9 (``; text`` before)."""
    import re

    where = ""
    for line in log.splitlines():
        if line.startswith("; "):
            match = re.match(r"; (.*) @ (\S+:\d+)$", line)
            where = f"{match.group(2)}: {match.group(1).strip()}" if match else line[2:].strip()
    return where
