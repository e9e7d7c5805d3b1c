# SPDX-License-Identifier: Apache-2.0
"""The option parser: what is understood, and the exact sentence for what is not."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from osmia.cli.args import HelpAsked, Parser, usage_of
from osmia.cli.common import seconds, size, times
from osmia.errors import OptionError, UserError
from osmia.lang.options import Option
from osmia.lang.types import Comm, Str, s8, u16, u32


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


def make(**more: Any) -> tuple[Parser, dict[str, Option]]:
    options = {
        "pid": Option("-p", "--pid", type=u32, help="this process"),
        "timestamp": Option("-T", "--timestamp"),
        "failed": Option("-x", "--failed"),
        "name": Option("-n", "--name", type=Comm),
        "file": Option("-f", "--file", type=str, metavar="FILE"),
        "many": Option("-m", "--many", type=list),
        "ratio": Option("--ratio", type=float),
        "colour": Option("--colour", type=Colour),
        "kind": Option("--kind", type=str, choices=("read", "write", "flush")),
        "duration": Option("-d", "--duration", type=float, parse=seconds),
        "interval": Option("interval", type=float, parse=seconds),
        "count": Option("count", type=int, parse=times),
    }
    return Parser("tool", options.values(), **more), options


def parse(*words: str) -> dict[str, Any]:
    parser, options = make()
    parser.parse(list(words))
    return {name: option.value for name, option in options.items() if option.given}


@pytest.mark.parametrize(
    ("words", "values"),
    [
        ([], {}),
        (["-p", "5"], {"pid": 5}),
        (["-p5"], {"pid": 5}),
        (["-p=5"], {"pid": 5}),
        (["--pid", "5"], {"pid": 5}),
        (["--pid=5"], {"pid": 5}),
        (["--pi=5"], {"pid": 5}),
        (["-Txp", "7"], {"timestamp": True, "failed": True, "pid": 7}),
        (["-Txp7"], {"timestamp": True, "failed": True, "pid": 7}),
        (["-p", "0x10"], {"pid": 16}),
        (["-p", "010"], {"pid": 10}),
        (["-p", "4294967295"], {"pid": 4294967295}),
        (["--timestamp", "--no-timestamp"], {"timestamp": False}),
        (["-n", "a name"], {"name": "a name"}),
        (["-n", "-x"], {"name": "-x"}),
        (["-f", ""], {"file": ""}),
        (["--file="], {"file": ""}),
        (["-m", "a", "-mb", "--many=c"], {"many": ["a", "b", "c"]}),
        (["--ratio", "-1.5"], {"ratio": -1.5}),
        (["--colour", "BLUE"], {"colour": Colour.BLUE}),
        (["--colour", "1"], {"colour": Colour.RED}),
        (["--kind", "read"], {"kind": "read"}),
        (["1", "3"], {"interval": 1.0, "count": 3}),
        (["0.5"], {"interval": 0.5}),
        (["1", "-T", "3"], {"interval": 1.0, "timestamp": True, "count": 3}),
        (["--", "1"], {"interval": 1.0}),
        (["-d", "2.5"], {"duration": 2.5}),
    ],
)
def test_understood(words: list[str], values: dict[str, Any]) -> None:
    assert parse(*words) == values


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--pidd", "5"], "tool: unknown option --pidd; did you mean --pid?"),
        (["--zzzz"], "tool: unknown option --zzzz; see osmia tool --help"),
        (["-z"], "tool: unknown option -z; see osmia tool --help"),
        (["-Tz"], "tool: unknown option -z (in -Tz); see osmia tool --help"),
        (["-p"], "tool: option -p needs a value; -p PID"),
        (["--file"], "tool: option --file needs a value; --file FILE"),
        (["-p", "abc"], "tool: option -p: 'abc' is not a whole number"),
        (["-p", "-1"], "tool: option -p: -1 is not in the range 0 to 4294967295"),
        (["--pid=4294967296"], "tool: option --pid: 4294967296 is not in the range 0 to 4294967295"),
        (["--timestamp=yes"], "tool: option --timestamp takes no value"),
        (["--no-pid"], "tool: unknown option --no-pid; did you mean --pid?"),
        (["-n", "a name of over 15 bytes"], "tool: option -n: 'a name of over 15 bytes' is too long: 15 bytes at most"),
        (["-n", "\u00e9" * 8], f"tool: option -n: '{8 * chr(0xE9)}' is too long: 15 bytes at most"),
        (["--ratio", "x"], "tool: option --ratio: 'x' is not a number"),
        (["--ratio", "nan"], "tool: option --ratio: 'nan' is not a finite number"),
        (["--colour", "GREEN"], "tool: option --colour: 'GREEN' is none of RED, BLUE"),
        (["--kind", "reed"], "tool: option --kind: there is no 'reed'; did you mean read?"),
        (["--kind", "x"], "tool: option --kind: there is no 'x'; it is one of read, write, flush"),
        (["-d", "0"], "tool: option -d: 0 is not a time: more than 0 seconds is needed"),
        (["-d", "soon"], "tool: option -d: 'soon' is not a number of seconds"),
        (["one"], "tool: interval: 'one' is not a number of seconds"),
        (["1", "0"], "tool: count: '0' is not a whole number from 1"),
        (["1", "2", "3"], "tool: unexpected argument '3'; see osmia tool --help"),
        (["--f", "x"], "tool: option --f is ambiguous; it could be --failed or --file"),
    ],
)  # fmt: skip
def test_refused(words: list[str], sentence: str) -> None:
    with pytest.raises(OptionError) as caught:
        parse(*words)
    assert str(caught.value) == sentence
    assert caught.value.exit_status == 2


def test_every_parse_starts_from_the_defaults() -> None:
    parser, options = make()
    parser.parse(["-p", "5", "-T", "-m", "a"])
    parser.parse(["-x"])
    assert (options["pid"].value, options["timestamp"].value, options["many"].value) == (0, False, None)
    assert options["failed"].value is True


@pytest.mark.parametrize("words", [["-h"], ["--help"], ["-Th"], ["-p", "5", "--help"], ["--hel"]])
def test_help(words: list[str]) -> None:
    with pytest.raises(HelpAsked):
        make()[0].parse(words)


def test_help_as_the_value_of_an_option_is_a_value() -> None:
    assert parse("-f", "-h") == {"file": "-h"}


def test_the_first_that_claims_a_flag_has_it() -> None:
    own = Option("-t", "--tid", type=int)
    common = Option("-T", "-t", "--timestamp")
    shadowed = Option("-t")
    parser = Parser("tool", [own, common, shadowed])
    parser.parse(["-t", "3", "-T"])
    assert (own.value, common.value, shadowed.given) == (3, True, False)
    assert parser.shown[common] == ["-T", "--timestamp"]
    assert shadowed not in list(parser.shown)


def test_options_of_equal_value_are_told_apart() -> None:
    first, second = Option("-a"), Option("-b")
    assert first == second  # in ordinary Python an option is its value
    parser = Parser("tool", [first, second])
    parser.parse(["-b"])
    assert (first.value, second.value) == (False, True)


def test_parse_and_type_functions() -> None:
    def fails(word: str) -> int:
        raise UserError(f"there is no user {word!r}", fix="see /etc/passwd")

    upper = Option("-u", type=str.upper)
    user = Option("-U", "--user", type=u16, parse=fails)
    parser = Parser("tool", [upper, user, Option("--odd", type=s8, parse=lambda word: int(word, 2))])
    parser.parse(["-u", "abc"])
    assert upper.value == "ABC"
    with pytest.raises(OptionError) as caught:
        parser.parse(["--user", "nobody2"])
    assert str(caught.value) == "tool: option --user: there is no user 'nobody2'; see /etc/passwd"
    with pytest.raises(OptionError) as caught:
        parser.parse(["--odd=7"])
    assert str(caught.value) == "tool: option --odd: '7' is no valid value"


def test_required_argument_and_rest() -> None:
    file = Option("file", type=str, metavar="FILE")
    parser = Parser("run", required=[file], rest=True)
    parser.parse(["a.py", "b", "-x"])
    assert (file.value, parser.rest) == ("a.py", ["b", "-x"])
    with pytest.raises(OptionError) as caught:
        parser.parse([])
    assert str(caught.value) == "run: FILE is missing"


@pytest.mark.parametrize(
    ("word", "value"),
    [("4096", 4096), ("64K", 65536), ("16M", 1 << 24), ("1g", 1 << 30), ("8MiB", 1 << 23), ("8MB", 1 << 23)],
)
def test_size(word: str, value: int) -> None:
    assert size(word) == value


@pytest.mark.parametrize("word", ["", "x", "3M", "2048", "4G", "-1", "1.5M"])
def test_bad_size(word: str) -> None:
    with pytest.raises(ValueError, match=r"is not a (size|power of two)"):
        size(word)


def test_usage() -> None:
    pid = Option("-p", "--process-id", type=int)
    assert usage_of(pid, ["-p", "--process-id"]) == "-p PROCESS_ID, --process-id=PROCESS_ID"
    assert usage_of(Option("-x", "--failed"), ["-x", "--failed"]) == "-x, --failed"
    assert usage_of(Option("-n", type=Str[8]), ["-n"]) == "-n VALUE"
