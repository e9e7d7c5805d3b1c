# SPDX-License-Identifier: Apache-2.0
"""Where the readline() of bash is: in bash itself, or in a library that others use as well."""

from __future__ import annotations

from osmia.errors import UserError
from osmia.lang.builtins import current
from osmia.lang.options import Computed, Option, option

PROGRAM, LIBRARY, FUNCTION = "/bin/bash", "readline", "readline"

shared = option("-s", "--shared", type=str, metavar="FILE",
                help="the libreadline.so of a bash, or another bash (default: /bin/bash, or its library)")  # fmt: skip
only_bash = Option("only_bash")  # nobody gives it: whether others use that file, too


def chosen():
    """Whether the current task is a bash, as far as that has to be asked."""
    return not only_bash or current.comm == "bash"


def file():
    """The file that has the function."""
    if shared.value:
        return shared.value
    from osmia.symbols import libs
    from osmia.symbols.elf_syms import Symbols
    from osmia.symbols.image import Image

    try:
        with Image(libs.find(PROGRAM).path, PROGRAM) as image:
            return PROGRAM if Symbols(image).named(FUNCTION) else LIBRARY
    except UserError:
        return "bash"  # wherever it is


def where(function):
    """A function of that file."""
    return Computed("where", lambda: f"{file()}:{function}", type=str)


def aim():
    """Before the programs are loaded."""
    only_bash.value = "readline" in file().rpartition("/")[2]
