# SPDX-License-Identifier: Apache-2.0
"""Where the types of a kernel come from, and ids of its types by name.

A warm start must not read 5 MB of BTF: :func:`attach_target` answers from a
small cache keyed by the kernel's build id, and only its first call ever looks
into the BTF itself.
"""

from __future__ import annotations

import os
import struct

from osmia.errors import NotFound, NotSupported, UserError
from osmia.kernel import cache, features

TYPE_CHECKING = False
if TYPE_CHECKING:
    import mmap

    from osmia.obj.btf import Btf

SYSFS = "/sys/kernel/btf"
#: Where distributions keep a vmlinux with BTF (``%s``: uname -r).
PLACES = (
    "/boot/vmlinux-%s",
    "/lib/modules/%s/vmlinux-%s",
    "/lib/modules/%s/build/vmlinux",
    "/usr/lib/modules/%s/kernel/vmlinux",
    "/usr/lib/debug/boot/vmlinux-%s",
    "/usr/lib/debug/boot/vmlinux-%s.debug",
    "/usr/lib/debug/lib/modules/%s/vmlinux",
)
_BTF_MAGIC = b"\x9f\xeb"
_MAX_IDS = 1000

_chosen = os.environ.get("OSMIA_BTF", "")
_btfs: dict[str, Btf] = {}
_ids: dict[str, int] | None = None
_kernel_id = ""


def use(path: str) -> None:
    """Take target types from this file (``--btf``): raw BTF, or an ELF file with a ``.BTF`` section."""
    global _chosen
    _chosen = path
    _btfs.pop("", None)


def is_chosen() -> bool:
    """Whether the user named a BTF file: then the kernel cannot be left to relocate by its own."""
    return bool(_chosen)


def kernel_id() -> str:
    """The running kernel's build id as hex; where it is hidden, release and checksum of the version."""
    global _kernel_id
    if not _kernel_id:
        _kernel_id = _build_id() or _uname_id()
    return _kernel_id


def _build_id() -> str:
    try:
        with open("/sys/kernel/notes", "rb", buffering=0) as file:
            return build_id(file.read(65536))
    except OSError:
        return ""


def build_id(notes: bytes) -> str:
    """The build id among ELF notes, in hexadecimal; empty where there is none."""
    at = 0
    while at + 12 <= len(notes):
        name_size, size, kind = struct.unpack_from("<III", notes, at)
        start = at + 12 + (name_size + 3 & ~3)
        if start + size > len(notes):
            break
        if kind == 3 and notes[at + 12 : at + 12 + name_size] == b"GNU\0":  # NT_GNU_BUILD_ID
            return notes[start : start + size].hex()
        at = start + (size + 3 & ~3)
    return ""


def _uname_id() -> str:
    import zlib

    info = os.uname()
    release = "".join(c if c.isalnum() or c in "._-" else "_" for c in info.release)
    return f"{release}-{info.machine}-{zlib.crc32(info.version.encode()):08x}"


def has_kernel_btf() -> bool:
    """Whether the running kernel itself holds its types (so that it can attach by type id and relocate)."""
    return features.has("btf") is True


def find() -> str:
    """Path of the BTF to relocate against; NotSupported with every place tried if there is none."""
    if _chosen:
        return _chosen
    tried = [f"{SYSFS}/vmlinux"]
    if has_kernel_btf():
        return tried[0]
    release = os.uname().release
    if not features.off("btf"):
        for place in PLACES:
            path = place.replace("%s", release)
            if os.path.exists(path):
                return path
            tried.append(path)
    raise NotSupported(
        f"no type information (BTF) of kernel {release} found; tried {', '.join(tried)}",
        fix="give a file with --btf FILE or OSMIA_BTF=FILE (btfhub has files for common kernels)",
    )


def kernel_btf() -> Btf | None:
    """The target's types; None when there are none anywhere.  A named file that is bad raises UserError."""
    found = _btfs.get("")
    if found is None:
        try:
            path = find()
        except NotSupported:
            return None
        found = _btfs[""] = _open(path)
    return found


def _running_btf() -> Btf | None:
    """The BTF that the kernel itself numbers types by."""
    if not has_kernel_btf():
        return None
    if not _chosen:
        return kernel_btf()
    if "vmlinux" not in _btfs:
        _btfs["vmlinux"] = _open(f"{SYSFS}/vmlinux")
    return _btfs["vmlinux"]


def _open(path: str, base: Btf | None = None) -> Btf:
    from osmia.obj.btf import Btf

    try:
        data = _contents(path)
    except OSError as e:
        raise NotFound(f"cannot read type information: {e.strerror}", where=path) from None
    return Btf(data, base=base, name=path)


def _contents(path: str) -> bytes | mmap.mmap:
    import mmap

    with open(path, "rb", buffering=0) as file:
        head = file.read(4)
        try:
            # sysfs BTF can be mapped since 6.16; it saves copying 5 MB
            data: bytes | mmap.mmap = mmap.mmap(file.fileno(), 0, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ)
        except (OSError, ValueError):
            file.seek(0)
            data = file.read()
    if head[:4] == b"\x7fELF":
        return _elf_section(data, b".BTF", path)
    if head[:2] != _BTF_MAGIC:
        raise UserError("neither BTF nor an ELF file with a .BTF section", where=path)
    return data


def _elf_section(data: bytes | mmap.mmap, wanted: bytes, path: str) -> bytes:
    try:
        if data[4] != 2 or data[5] != 1:
            raise UserError("only 64-bit little-endian ELF files are read", where=path)
        table, size, count, names = struct.unpack_from("<Q10xHHH", data, 40)
        headers = [struct.unpack_from("<IIQQQQ", data, table + i * size) for i in range(count)]
        strings = headers[names]
        for name, _, _, _, offset, length in headers:
            start = strings[4] + name
            if data[start : start + len(wanted) + 1] == wanted + b"\0":
                return bytes(data[offset : offset + length])
    except (struct.error, IndexError):
        raise UserError("damaged ELF file", where=path) from None
    raise UserError("has no .BTF section", where=path, fix="build the kernel with CONFIG_DEBUG_INFO_BTF=y")


# --- modules ------------------------------------------------------------------------------------------------------


def modules() -> list[str]:
    """Loaded modules that have BTF."""
    try:
        return sorted(name for name in os.listdir(SYSFS) if name != "vmlinux")
    except OSError:
        return []


def module_btf(name: str) -> Btf | None:
    """Types of a loaded module, on top of the kernel's; None if it has none."""
    if name not in _btfs:
        base = _running_btf()
        path = f"{SYSFS}/{name}"
        if base is None or not os.path.exists(path):
            return None
        _btfs[name] = _open(path, base)
    return _btfs[name]


def _module_fd(name: str) -> int:
    """An fd of a module's BTF object, as attaching to its types needs."""
    from osmia.kernel import bpf
    from osmia.kernel.door import address

    text, id = bytearray(64), 0
    while id := bpf.btf_get_next_id(id):
        fd = bpf.btf_get_fd_by_id(id)
        # struct bpf_btf_info: btf, btf_size, id, name, name_len, kernel_btf
        info = bpf.obj_get_info(fd, 32, struct.pack("<QIIQII", 0, 0, 0, address(text), len(text), 0))
        if struct.unpack_from("<I", info, 28)[0] and bytes(text).split(b"\0", 1)[0] == name.encode():
            return fd
        os.close(fd)
    raise NotFound(f"the kernel has no type information of module {name}")


# --- ids by name --------------------------------------------------------------------------------------------------


def _saved_ids() -> dict[str, int]:
    global _ids
    if _ids is None:
        _ids = {}
        for line in (cache.read(f"btf-ids-{kernel_id()}") or b"").decode("utf-8", "replace").splitlines():
            name, _, id = line.rpartition(" ")
            if id.isdigit():
                _ids[name] = int(id)
    return _ids


def type_id(name: str, kind: int) -> int:
    """Id of the running kernel's type ``name`` of BTF kind ``kind``; 0 when it has none.

    Answers come from the cache where possible; a miss reads the kernel's BTF
    (some 20 ms the first time, 5 ms later).
    """
    if not has_kernel_btf():
        return 0
    ids, key = _saved_ids(), f"{name} {kind}"
    id = ids.get(key)
    if id is None:
        btf = _running_btf()
        id = btf.find(name, kind) if btf else 0
        if id and len(ids) < _MAX_IDS:
            ids[key] = id
            text = "".join(f"{k} {v}\n" for k, v in ids.items())
            cache.write(f"btf-ids-{kernel_id()}", text.encode())
    return id


def attach_target(name: str, kind: int) -> tuple[int, int]:
    """``(BTF object fd or 0 for vmlinux, type id)`` of what a program attaches to by type.

    The caller closes the fd.  ``(0, 0)``: neither the kernel nor a loaded
    module has such a type.  ``module:name`` looks in that module only.
    """
    wanted, _, name = name.rpartition(":")
    id = 0 if wanted else type_id(name, kind)
    if id:
        return 0, id
    for module in [wanted] if wanted else modules():
        btf = module_btf(module)
        id = btf.find(name, kind) if btf else 0
        if btf and id >= btf.start_id:
            return _module_fd(module), id
    return 0, 0


def near_names(prefix: str, name: str) -> list[str]:
    """Names like ``name`` among the kernel's typedefs ``prefix…`` (for error messages; slow)."""
    import difflib

    from osmia.obj import consts

    btf = _running_btf()
    if btf is None:
        return []
    kinds = (consts.BTF_KIND_TYPEDEF, consts.BTF_KIND_FUNC)
    names = {found[len(prefix) :] for found, _ in btf.find_prefix(prefix, kinds)}
    return difflib.get_close_matches(name, names, 3, 0.6)
