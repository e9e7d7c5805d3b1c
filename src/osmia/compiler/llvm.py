# SPDX-License-Identifier: Apache-2.0
"""The calls into LLVM, made in the child process of :mod:`osmia.compiler.emit` only.

Importing ``llvmlite.binding`` takes about 35 ms, of which loading the library
is 5: the rest is Python modules that are not needed to compile one text.  So
for the llvmlite versions whose functions were checked against this file, the
library is called directly; for any other, through the package.
"""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import ctypes
    from typing import Any

TRIPLE = "bpfel"
#: The instruction set: what kernel 5.10 has.
CPU = "v3"
#: Optimisation of the IR and in code generation.  0 leaves out the pass that folds CO-RE
#: offsets into the loads, and the verifier then sees loads from unknown
#: addresses.
LEVEL = 2

# What is optimised, and how: everything is inlined that has to be, what is left over goes, and then each function is
# taken through the part of LLVM's -O2 that simplifies functions.  The rest of -O2 does the same once before inlining
# and looks for vectors and for constants between functions: a sixth of the compiler's time for 2 % of instructions.

#: Options of LLVM itself.  Strength reduction lets loops count from below zero and adds the difference back in
#: the offset of each access; before that, the pointer is in front of its memory, which 7.2's verifier refuses.
OPTIONS = ("-disable-lsr",)

#: Versions of llvmlite whose C functions have the signatures used below.
CHECKED = ("0.50.",)


def prepare() -> None:
    """Load the library while the text is still being made; errors wait for :func:`translate`."""
    path = _library()
    if path is None:
        return
    try:
        library = _loaded[path] = _Library(path)
        library.initialise()
        library.machine()
    except (ImportError, OSError, AttributeError, RuntimeError):
        _loaded.pop(path, None)


def translate(ir: str, as_object: bool) -> bytes:
    """Parse ``ir``, optimise it, and return the object file's or the assembly's bytes.

    Raises ImportError without llvmlite and RuntimeError for text that is no
    valid IR; other errors end the process (see :mod:`osmia.compiler.emit`).
    """
    library = _library()
    if library is not None:
        return _directly(library, ir.encode(), as_object)
    return _by_package(ir, as_object)


def _by_package(ir: str, as_object: bool) -> bytes:
    """Through llvmlite's own interface."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    for option in OPTIONS:
        llvm.set_option("osmia", option)
    module = llvm.parse_assembly(ir)
    module.verify()
    machine = llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=CPU, opt=LEVEL)
    tuning = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    builder = llvm.create_pass_builder(machine, tuning)
    whole = llvm.create_new_module_pass_manager()
    whole.add_always_inliner_pass()
    whole.add_global_dead_code_eliminate_pass()
    whole.run(module, builder)
    each = builder.getFunctionPassManager()
    for function in module.functions:
        if not function.is_declaration:
            each.run(function, builder)
    if as_object:
        return bytes(machine.emit_object(module))
    return str(machine.emit_assembly(module)).encode()


def _library() -> str | None:
    """The path of the library when its version is a checked one and nobody has loaded it yet.

    ``OSMIA_LLVM=package`` in the environment forbids the direct way.
    """
    if "llvmlite" in sys.modules or os.environ.get("OSMIA_LLVM") == "package":
        return None
    for folder in sys.path:
        base = os.path.join(folder or ".", "llvmlite")
        try:
            with open(os.path.join(base, "_version.py"), encoding="utf-8") as f:
                text = f.read()
        except OSError:
            if os.path.isdir(base):
                return None  # some other layout: the package knows
            continue
        version = text.partition("version_version = '")[2].partition("'")[0]
        path = os.path.join(base, "binding", "libllvmlite.so")
        return path if version.startswith(CHECKED) and os.path.exists(path) else None
    return None


class _Library:
    """The functions of ``libllvmlite.so`` that one compilation needs."""

    def __init__(self, path: str) -> None:
        import ctypes

        self.ctypes = ctypes
        self.handle = ctypes.CDLL(path)
        self._made: tuple[ctypes.c_void_p, ctypes.c_void_p] | None = None

    def initialise(self) -> None:
        """Make the targets known."""
        for name in ("TargetInfos", "Targets", "TargetMCs", "AsmPrinters"):
            self.call(f"InitializeAll{name}", None)
        for option in OPTIONS:
            self.call("SetCommandLine", None, self.ctypes.c_char_p(b"osmia"), self.ctypes.c_char_p(option.encode()))

    def machine(self) -> tuple[ctypes.c_void_p, ctypes.c_void_p]:
        """The target machine and the pass builder, made at the first call."""
        if self._made is None:
            ct = self.ctypes
            triple, empty, number = ct.c_char_p(TRIPLE.encode()), ct.c_char_p(b""), ct.c_int
            target = self.pointer("GetTargetFromTriple", triple, ct.pointer(ct.c_char_p()))
            machine = self.pointer(
                "CreateTargetMachine", target, triple, ct.c_char_p(CPU.encode()), empty, number(LEVEL),
                ct.c_char_p(b"default"), ct.c_char_p(b"jitdefault"), number(0), number(0), empty,
            )  # fmt: skip
            tuning = self.pointer("CreatePipelineTuningOptions")
            self._made = machine, self.pointer("CreatePassBuilder", machine, tuning)
        return self._made

    def call(self, name: str, result: Any, *args: Any) -> Any:
        """Call ``LLVMPY_<name>``; pointers go in as ``c_void_p``."""
        function = getattr(self.handle, f"LLVMPY_{name}")
        function.argtypes = [type(a) for a in args]
        function.restype = result
        return function(*args)

    def pointer(self, name: str, *args: Any) -> ctypes.c_void_p:
        """Call a function that makes something; the thing."""
        made = self.call(name, self.ctypes.c_void_p, *args)
        if not made:
            raise RuntimeError(f"LLVMPY_{name} made nothing")
        return self.ctypes.c_void_p(made)


_loaded: dict[str, _Library] = {}


def _directly(path: str, ir: bytes, as_object: bool) -> bytes:
    """The same as :func:`_by_package`, on the library itself; signatures as in llvmlite/binding/*.py."""
    lib = _loaded.get(path)
    if lib is None:
        lib = _Library(path)
        lib.initialise()
    ct = lib.ctypes
    message = ct.c_char_p()
    where = ct.pointer(message)  # an output string; leaked, the process is about to end

    context = lib.pointer("GetGlobalContext")
    module = ct.c_void_p(lib.call("ParseAssembly", ct.c_void_p, context, ct.c_char_p(ir), where))
    if message.value or not module:
        raise RuntimeError(f"LLVM IR parsing error\n{(message.value or b'').decode('utf-8', 'replace')}")
    if lib.call("VerifyModule", ct.c_bool, module, where):
        raise RuntimeError((message.value or b"").decode("utf-8", "replace"))
    machine, builder = lib.machine()
    _optimise(lib, module, builder)
    buffer = lib.call("TargetMachineEmitToMemory", ct.c_void_p, machine, module, ct.c_int(as_object), where)
    if not buffer:
        raise RuntimeError((message.value or b"").decode("utf-8", "replace"))
    start = lib.call("GetBufferStart", ct.c_void_p, ct.c_void_p(buffer))
    size = lib.call("GetBufferSize", ct.c_size_t, ct.c_void_p(buffer))
    return bytes(ct.string_at(start, size))


def _optimise(lib: _Library, module: ctypes.c_void_p, builder: ctypes.c_void_p) -> None:
    ct = lib.ctypes
    whole = lib.pointer("CreateNewModulePassManager")
    for name in ("AlwaysInliner", "GlobalDCE"):
        lib.call(f"module_Add{name}Pass", None, whole)
    lib.call("RunNewModulePassManager", None, whole, module, builder)
    each = lib.pointer("buildFunctionSimplificationPipeline", builder, ct.c_int(LEVEL))
    functions = lib.pointer("ModuleFunctionsIter", module)
    while function := lib.call("FunctionsIterNext", ct.c_void_p, functions):
        function = ct.c_void_p(function)
        if not lib.call("IsDeclaration", ct.c_int, function):
            lib.call("RunNewFunctionPassManager", None, each, function, builder)
