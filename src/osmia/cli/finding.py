# SPDX-License-Identifier: Apache-2.0
"""Which tools are about what somebody says: ``osmia list --for "the disk is slow"``.

Each tool is a few texts of different worth: its name, its title, its subject,
what its examples show, and how its page begins.  A word that is asked for is
worth more where fewer tools have it; words of the same meaning count, too,
and less.  Words are compared by their stems.
"""

from __future__ import annotations

import math
import os
import re

from osmia.cli import catalog
from osmia.cli.meanings import ALIKE, IRREGULAR, PHRASES, STOP
from osmia.errors import NotFound, OptionError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

#: What a word is worth by where it is: the best place counts.
_NAME, _TITLE, _SUBJECT, _EXAMPLES, _PAGE = 3.0, 3.0, 1.5, 1.0, 0.8
#: What a word of the same meaning is worth.
_ALIKE = 0.7
#: What the second place is worth, where both the name and a text have the word.
_AGAIN = 0.3
#: Tools that are worth less than this share of the best one are not shown, and no more than so many.
_LEAST, _MOST = 0.4, 12
_SUFFIXES = ("ness", "ingly", "ing", "est", "ers", "ies", "ed", "er", "ly", "es", "s")


def stem(word: str) -> str:
    """What forms of a word have in common: ``slow`` of slower, slowest and slowness."""
    word = IRREGULAR.get(word, word)
    for suffix in _SUFFIXES:
        left = word[: -len(suffix)]
        if len(left) < 3 or not word.endswith(suffix) or (suffix == "s" and word.endswith(("ss", "us", "is"))):
            continue
        if suffix == "ies":
            return left + "y"
        if suffix not in ("s", "es", "ness", "ly") and left[-1] == left[-2] and left[-1] not in "lsz":
            left = left[:-1]  # stopping, dropped
        word = left
        break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word


def words(text: str) -> list[str]:
    """The stems of a text, in order, without what says nothing."""
    text = text.lower()
    for phrase, word in PHRASES.items():
        text = text.replace(phrase, word)
    return [stem(word) for word in re.findall(r"[a-z0-9]+", text) if word not in STOP and len(word) > 1]


def meanings(asked: str) -> dict[str, float]:
    """Stems that are as good as the stem ``asked``, and how good."""
    found = {asked: 1.0}
    for group in ALIKE:
        stems = [stem(word) for word in group.split()]
        if asked in stems:
            found |= {one: _ALIKE for one in stems if one not in found}
    return found


class Texts:
    """What a tool says of itself: stems and what each is worth."""

    def __init__(self, name: str, subject: str) -> None:
        self.name = name
        self.worth: dict[str, float] = {}
        for text, worth in (
            (name, _NAME), (catalog.title(name), _TITLE), (subject, _SUBJECT), (_data("help", name), _EXAMPLES),
            (_data("about", name), _PAGE),
        ):  # fmt: skip
            for word in words(text):
                self.worth[word] = max(worth, self.worth.get(word, 0.0))

    def of(self, asked: dict[str, float]) -> float:
        """What the tool is worth for one word and those of the same meaning."""
        best = max([self.worth.get(word, 0.0) * good for word, good in asked.items()])
        # Names are made of words: tcpdrop of tcp and drop.
        inside = _NAME * max([good for word, good in asked.items() if len(word) > 2 and word in self.name], default=0.0)
        return max(best, inside) + min(best, inside) * _AGAIN


_texts: dict[tuple[str, str, str], Texts] = {}


def texts_of(name: str, subject: str) -> Texts:
    """The texts of a tool, read once."""
    key = catalog.DIRECTORY, name, subject
    if key not in _texts:
        _texts[key] = Texts(name, subject)
    return _texts[key]


def _data(kind: str, name: str) -> str:
    place = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", f"{kind}-{name}.txt")
    try:
        with open(place, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return ""


def find(text: str, tools: Iterable[str] | None = None) -> list[tuple[str, float]]:
    """The tools that are about ``text``, best first, and what each is worth."""
    asked = [meanings(word) for word in dict.fromkeys(words(text))]
    groups = catalog.by_subject(tools or catalog.names())
    known = [texts_of(name, subject) for subject, members in groups for name in members]
    values: dict[str, list[float]] = {one.name: [] for one in known}
    for word in asked:
        found = {one.name: one.of(word) for one in known}
        having = sum(value > 0 for value in found.values())
        for name, value in found.items():
            values[name].append(value * math.log(1 + len(known) / having) if having else 0.0)
    ranked = []
    for name, each in values.items():
        share = sum(value > 0 for value in each) / max(1, len(each))
        if share:
            ranked.append((name, sum(each) * share))
    ranked.sort(key=lambda one: (-one[1], one[0]))
    best = ranked[0][1] if ranked else 0.0
    return [one for one in ranked if one[1] >= _LEAST * best][:_MOST]


def listing(text: str) -> str:
    """What ``osmia list --for`` prints: names and titles, best first.  NotFound where no tool is about ``text``."""
    found = find_some(text)
    width = max(len(name) for name, _ in found)
    return "".join([f"{name:<{width}}  {catalog.title(name)}\n" for name, _ in found])


def records(text: str) -> str:
    """The same as JSON, one object a line; ``score`` compares tools of one answer."""
    from osmia.views.machine import json_line

    subjects = {name: subject for subject, members in catalog.by_subject(catalog.names()) for name in members}
    out = []
    for name, score in find_some(text):
        record = {"name": name, "subject": subjects[name], "title": catalog.title(name), "score": round(score, 2)}
        out.append(json_line(record) + "\n")
    return "".join(out)


def find_some(text: str) -> list[tuple[str, float]]:
    """As :func:`find`; NotFound in place of nothing, OptionError where nothing is said."""
    if not words(text):
        raise OptionError(f"{text!r} says nothing that tools differ in", where="list: option --for",
                          fix="say what it is about, such as: slow disk")  # fmt: skip
    found = find(text)
    if not found:
        raise NotFound(f"no tool is about {text!r}", where="list", fix="osmia list shows all of them")
    return found
