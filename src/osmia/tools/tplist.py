# SPDX-License-Identifier: Apache-2.0
"""List tracepoints of the kernel and static probes of programs, with their arguments."""

from __future__ import annotations

from fnmatch import fnmatchcase

from osmia.errors import NotFound, UserError
from osmia.kernel import named, tracefs
from osmia.lang.options import option
from osmia.lang.templates import Listing
from osmia.symbols import libs, usdt
from osmia.symbols.elf_syms import Symbols
from osmia.symbols.image import Image

pid = option("-p", "--pid", type=int, parse=named.process_number, metavar="PID",
             help="list the static probes of this process: of its program and of what it has mapped")  # fmt: skip
library = option("-l", "--lib", type=str, metavar="LIB", help="list the static probes of this library or program")
verbosity = option("-v", "--verbose", help="show arguments, too; -vv: where each place of a static probe has them")
chosen = option("filter", type=str, help="only those that this shell pattern matches, as in 'block:*'")


def fits(name):
    return not chosen.given or fnmatchcase(name, chosen.value)


def records():
    """One for each tracepoint, or static probe."""
    found = list(static_probes() if pid or library else tracepoints())
    if not found:
        raise NotFound(f"there is nothing that {chosen.value or '*'} matches", where="tplist", fix=near())
    return found


def near():
    category, colon, name = str(chosen.value).partition(":")
    return "" if pid or library or not colon else tracefs.suggest(category, name)


# --- tracepoints --------------------------------------------------------------------------------------------------


def tracepoints():
    for category in tracefs.categories():
        for name in tracefs.tracepoints(category):
            if fits(f"{category}:{name}"):
                record = {"kind": "tracepoint", "name": f"{category}:{name}"}
                if verbosity:
                    record["fields"] = fields(category, name)
                yield record


def fields(category, name):
    """The fields of a record, without those that all have."""
    out = []
    for line in tracefs.format(category, name).splitlines():
        head, colon, rest = line.strip().partition("field:")
        if colon and not head:
            kind, _, field = rest.partition(";")[0].rpartition(" ")
            if not field.startswith("common_"):
                out.append({"name": field, "type": kind})
    return out


# --- static probes ------------------------------------------------------------------------------------------------


def files():
    """``(path to open, name to show)`` of the files that are meant."""
    if library:
        found = libs.find(library.value, int(pid))
        return [(found.path, found.name)]
    mapped = [(libs.opened_through(int(pid), one), one.path) for one in libs.mappings(int(pid))]
    return list(dict.fromkeys(mapped))


def static_probes():
    for path, name in files():
        yield from probes_of(path, name)


def probes_of(path, name):
    try:
        with Image(path, name) as image:
            return list(of_image(image, name))
    except UserError:
        if library:  # what else a process has mapped need not be a program
            raise
        return []


def of_image(image, name):
    symbols = Symbols(image)
    by_name: dict[str, list] = {}
    for site in usdt.sites(image):
        if fits(site.full_name):
            by_name.setdefault(site.full_name, []).append(site)
    for full, sites in by_name.items():
        semaphore = image.address_of(sites[0].semaphore) if sites[0].semaphore else 0
        yield {
            "kind": "static probe", "name": full, "file": name, "semaphore": semaphore or 0,
            "locations": [{"address": one.address, "arguments": arguments(image, symbols, one)} for one in sites],
        }  # fmt: skip


def arguments(image, symbols, site):
    out = []
    for one in usdt.arguments(image, symbols, site):
        operand = one.text.partition("@")[2] or one.text
        out.append({"size": one.size, "signed": one.signed, "operand": operand.replace("%", "").replace("$", "")})
    return out


# --- text ---------------------------------------------------------------------------------------------------------


def line(record):
    if record["kind"] == "tracepoint":
        return "\n".join([record["name"], *[f"    {one['type']} {one['name']};" for one in record.get("fields", ())]])
    places = record["locations"]
    if not verbosity:
        return f"{record['file']} {record['name']}"
    head = f"{record['name']} [sema {record['semaphore']:#x}]"
    if verbosity.times < 2:
        return f"{head}\n  {len(places)} location(s)\n  {len(places[0]['arguments'])} argument(s)"
    out = [head]
    for number, place in enumerate(places, 1):
        out.append(f"  location #{number} {record['file']} {place['address']:#x}")
        for at, one in enumerate(place["arguments"], 1):
            sign = "signed" if one["signed"] else "unsigned"
            out.append(f"    argument #{at} {one['size']} {sign} bytes @ {one['operand']}")
    return "\n".join(out)


tool = Listing(records, text=line, fields=("kind", "name", "file"))
