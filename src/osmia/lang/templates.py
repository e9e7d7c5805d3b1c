# SPDX-License-Identifier: Apache-2.0
"""What a tool shows: one template object per tool file.

A template only describes; :mod:`osmia.cli.templates` runs it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from osmia.lang.hist import ByCpu, Hist
    from osmia.lang.maps import Map, Ring
    from osmia.lang.stacks import Stacks


class Template:
    """Base: ``prepare`` (no argument) runs after the options are parsed and before load; a template that it returns
    is shown instead.

    ``pictures`` names the common options that draw what the template shows;
    ``view`` (``"module:class"``) what runs it, where :mod:`osmia.cli.templates`
    does not know it by itself.  ``declares``, for a tool whose programs depend
    on its command line, is called after ``prepare`` and gives them and their
    maps by name, and a text that says what they were made of; ``rings``: rings
    of events are among them.

    ``placed`` runs when it is known where the programs will attach
    (:attr:`osmia.lang.probes.Prog.names`), and before they are loaded: for sizes
    of maps; only with ``careful``: it is the user who says where, so they are told
    how many places that is and what it costs, and asked when that is very much.

    ``descendants``: with ``-c`` probes of user programs see what the command starts, too.  For that they are
    put into all processes, so it is for functions that are seldom called.
    """

    pictures: tuple[str, ...] = ()
    view = ""
    prepare: Callable[[], Any] | None = None
    declares: Callable[[], tuple[dict[str, Any], str]] | None = None
    rings = False
    placed: Callable[[], None] | None = None
    careful = False
    descendants = False
    lists = False
    banner: Any = ""

    def banner_text(self) -> str:
        """The banner, a text or a function that gives one; empty where there is none."""
        return str(self.banner() if callable(self.banner) else self.banner)


class BeforeAttach:
    """A function of the user side that :func:`before_attach` marked."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.__doc__ = function.__doc__
        self.__module__ = function.__module__
        self.__wrapped__ = function

    def __call__(self) -> Any:
        return self.function()


def before_attach(function: Callable[[], Any]) -> BeforeAttach:
    """Run a function when the maps are there and no program is attached yet: maps that depend on options.

    It is ordinary Python without arguments; options have their values, and
    every map that a program uses is live.  What is put into maps at module
    level needs no such function: it is there before.  Where programs have to
    be loaded once more (another hook of their plan is tried), it runs once
    more, on new maps.  Raise :class:`osmia.errors.UserError` to end the run
    with one sentence.

    Example::

        only = option("--uids", type=str, default="0", help="trace these users, separated by commas")
        wanted = Hash[u32, u8](1024)
        opens = Hash[Comm, u64]()

        @before_attach
        def choose():
            for uid in str(only).split(","):
                wanted[int(uid)] = 1

        @tracepoint("syscalls:sys_enter_openat")
        def enter(call):
            if current.uid in wanted:
                opens[current.comm] += 1
    """
    return BeforeAttach(function)


class Col:
    """One column: ``field`` of the event, heading, width, and how to show it.

    ``show`` turns the value into text (table and CSV only; JSON keeps the
    value); ``when`` (an option or a function) hides the column while false.
    ``row`` computes the value from the whole event instead of taking a field.
    ``below``, from event to lines: in an event table's text these are below the
    row, and the column is not in it; JSON and CSV have it as any other.

    Example::

        reads = Hash[tuple[u32, Comm], u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid, current.comm] += 1

        tool = count_table(reads, [
            Col("f0", "PID", 8, align="<"),
            Col("f1", "PROGRAM", 16, show=str.upper),
            Col("count"),
        ])
    """

    __slots__ = ("align", "below", "field", "heading", "row", "show", "when", "width")

    def __init__(
        self,
        field: str,
        heading: str = "",
        width: int = 0,
        *,
        align: str = "",
        show: Callable[[Any], str] | None = None,
        when: Any = True,
        row: Callable[[Any], Any] | None = None,
        below: Callable[[Any], Sequence[str]] | None = None,
    ) -> None:
        self.field = field
        self.below = below
        self.heading = heading or field.upper()
        self.width = width
        self.align = align
        self.show = show
        self.when = when
        self.row = row


class EventTable(Template):
    """One row per event (templates 1 and 2).

    ``keep`` says which events are shown; ``banner`` is printed first.  Where the view
    is :class:`osmia.cli.with_stacks.EventsWithStacks`, stacks of the map ``stacks`` are below each row,
    or with ``folded`` (an option) all that is shown.
    """

    def __init__(
        self,
        ring: Ring,
        columns: Sequence[Col] | None = None,
        *,
        prepare: Callable[[], Any] | None = None,
        keep: Callable[[Any], bool] | None = None,
        banner: str | Callable[[], str] = "",
        placed: Callable[[], None] | None = None,
        careful: bool = False,
        descendants: bool = False,
        stacks: Stacks | None = None,
        folded: Any = False,
    ) -> None:
        self.descendants = descendants
        self.stacks = stacks
        self.folded = folded
        self.ring = ring
        self.columns = columns
        self.banner = banner
        self.placed = placed
        self.careful = careful
        self.prepare = prepare
        self.keep = keep


class Histogram(Template):
    """A histogram per interval (template 5).

    ``label`` shows a key (one block per key, under ``section``); ``unit`` is
    the heading of the values, a function where it depends on an option.
    ``text`` turns the histograms of an interval, by key, into what is printed
    in their place; the forms for programs still have the histograms, and what ``record`` makes of
    them, a dictionary, is in the JSON object, too.  ``interval`` as in :class:`CountTable`.  With
    ``stacks`` the key is an event with ``comm``, ``pid`` and ``kernel``, the number of
    one of them: a block is headed by that stack, and the argument is a duration.
    """

    pictures = ("heatmap", "svg", "html")

    def __init__(
        self,
        hist: Hist | ByCpu,
        *,
        section: str = "",
        label: Callable[[Any], str] | None = None,
        unit: str | Callable[[], str] = "",
        banner: str | Callable[[], str] = "",
        prepare: Callable[[], Any] | None = None,
        footer: Callable[[Any], str] | None = None,
        text: Callable[[dict[Any, Any]], str] | None = None,
        record: Callable[[dict[Any, Any]], dict[str, Any]] | None = None,
        interval: float = 0.0,
        stacks: Stacks | None = None,
        placed: Callable[[], None] | None = None,
        careful: bool = False,
    ) -> None:
        self.hist = hist
        self.placed = placed
        self.careful = careful
        self.stacks = stacks
        self.section = section
        self.label = label
        self.unit = unit
        self.banner = banner
        self.prepare = prepare
        self.footer = footer
        self.text = text
        self.record = record
        self.interval = interval


class CountTable(Template):
    """Counts per key, smallest first as bcc prints them (template 4).

    An entry of the table has ``key`` and ``count``, and a number from each of
    the maps ``more`` under their names.  ``sort`` says by what entries are
    ordered, largest first, and ``most`` how many are shown (0: all; an option
    or a number).  ``text`` turns the entries of an interval, and its
    length in seconds, into what is printed in place of the table.  ``interval``: seconds between summaries
    where the user says nothing; 0 for only one, at the end.  ``duration``: the argument is no interval but how long
    to trace, and this where the user says nothing; 0: until it is stopped.  ``name`` says what a key is called: an
    entry has that for its key, and those of one name are one.  With ``screen``, an option that keeps what was shown
    before, each summary is a page of its own: the time and the load averages stand above it, and a terminal is
    cleared first.  ``loads``, a function or a flag, says whether that line is there.
    With ``taken`` the maps are emptied by each summary, so that keys that come and go do not fill them.
    """

    def __init__(
        self,
        map: Map,
        columns: Sequence[Col],
        *,
        banner: str | Callable[[], str] = "",
        prepare: Callable[[], Any] | None = None,
        placed: Callable[[], None] | None = None,
        careful: bool = False,
        name: Callable[[Any], Any] | None = None,
        more: Mapping[str, Map] | None = None,
        sort: Callable[[Any], Any] | None = None,
        most: Any = 0,
        text: Callable[[list[Any], float], str] | None = None,
        interval: float = 0.0,
        duration: float | None = None,
        screen: Any = None,
        taken: bool = False,
        loads: Any = True,
    ) -> None:
        self.map = map
        self.columns = columns
        self.banner = banner
        self.prepare = prepare
        self.placed = placed
        self.careful = careful
        self.name = name
        self.more = dict(more or {})
        self.sort = sort
        self.most = most
        self.text = text
        self.interval = interval
        self.duration = duration
        self.screen = screen
        self.taken = taken
        self.loads = loads


class Declared(Template):
    """A tool whose programs depend on its command line; ``view`` shows what they send."""

    def __init__(
        self,
        prepare: Callable[[], Any],
        declares: Callable[[], tuple[dict[str, Any], str]],
        *,
        view: str,
        careful: bool = False,
        rings: bool = False,
    ) -> None:
        self.prepare = prepare
        self.declares = declares
        self.rings = rings
        self.view = view
        self.careful = careful
        self.ring: Any = None
        #: What the tool keeps between ``prepare`` and ``declares``, and what its view asks for.
        self.command = ""
        self.functions: list[Any] = []
        self.banner: Callable[[], str] = str
        self.told: Callable[[], str] = str


class Listing(Template):
    """What a tool finds out without tracing anything: ``records`` makes one dictionary after the other.

    ``text`` is what is printed of one, ``heading`` (or a function) comes first.  In JSON a
    record is an object, in CSV the values of ``fields`` are a line.
    """

    lists = True

    def __init__(
        self,
        records: Callable[[], Iterable[dict[str, Any]]],
        *,
        text: Callable[[dict[str, Any]], str],
        fields: Sequence[str],
        heading: str | Callable[[], str] = "",
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        self.records = records
        self.text = text
        self.fields = fields
        self.heading = heading
        self.prepare = prepare


class StackPart:
    """One part of a row of stacks: a name, or the frames of a stack.

    ``field`` of the key is the text, or the number of a stack.  A user
    stack belongs to the process in the field ``pid``, and to the program that
    ran in it at the time in the field ``since`` (see
    :mod:`osmia.lang.images`).  ``upward``: innermost frame first, for one that
    hangs down from what it woke.  ``text`` is a constant name, ``field`` none.

    Where a row has several names, ``label`` goes before this one in text, and
    the number in the field ``pid`` after it (``target:  naps (123)``);
    ``missing`` is shown where the name is empty.
    """

    __slots__ = ("field", "label", "missing", "pid", "since", "text", "upward")

    def __init__(
        self,
        field: str = "",
        *,
        pid: str = "pid",
        since: str = "since",
        upward: bool = False,
        text: str = "",
        label: str = "",
        missing: str = "",
    ) -> None:
        self.field = field
        self.pid = pid
        self.since = since
        self.upward = upward
        self.text = text
        self.label = label
        self.missing = missing


class StackTable(Template):
    """Counts, times or bytes by stack: as text, folded, as flame graphs (template 7).

    ``state``: a summary is what there is, and not what was added.  Where ``osmia record`` sets the option ``recorded``,
    samples come by the ring ``one_by_one``, whose events have what a key has, and ``at``, their ``ktime()``.
    """

    pictures = ("svg", "html")
    state = False

    def __init__(
        self,
        map: Map,
        stacks: Stacks,
        *,
        unit: str | Callable[[], str] = "samples",
        divisor: int = 1,
        parts: Sequence[StackPart] = (StackPart("comm"), StackPart("user"), StackPart("kernel")),
        banner: str | Callable[[], str] = "",
        folded: Any = False,
        annotate: Any = False,
        delimiter: Any = False,
        offsets: Any = False,
        waiting: bool = False,
        intervals: bool = False,
        careful: bool = False,
        copies: Any = None,
        copied: Any = False,
        one_by_one: Any = None,
        recorded: Any = None,
        who: Callable[[Any], str] | None = None,
        prepare: Callable[[], Any] | None = None,
    ) -> None:
        self.map = map
        self.stacks = stacks
        self.unit = unit
        self.divisor = divisor
        self.parts = parts
        self.banner = banner
        self.folded = folded
        self.annotate = annotate
        self.delimiter = delimiter
        self.offsets = offsets
        self.waiting = waiting
        self.intervals = intervals
        self.careful = careful
        self.copies = copies
        self.copied = copied
        self.one_by_one = one_by_one
        self.recorded = recorded
        self.who = who
        self.prepare = prepare


def event_table(ring: Ring, columns: Sequence[Col] | None = None, **named: Any) -> EventTable:
    """Show each event of ``ring`` as a row; without ``columns`` each field of the event is one.

    Example::

        class Start(Event):
            pid: u32
            comm: Comm

        starts = Ring(Start)

        @tracepoint("sched:sched_process_exec")
        def executed(record):
            with starts.reserve() as e:
                e.pid, e.comm = current.tgid, current.comm

        tool = event_table(starts)
    """
    return EventTable(ring, columns, **named)


def histogram(hist: Hist | ByCpu, **named: Any) -> Histogram:
    """Show ``hist`` every interval, or at the end.

    Named parameters: ``unit`` is the heading of the values, or a function
    that gives it; ``section`` and ``label`` say what keys are and how one is
    shown; ``banner`` is printed first; ``footer`` makes a line for all
    histograms of an interval; ``text`` makes what is printed in their place
    from ``{key: histogram}``, ``record`` what is in the JSON object besides them;
    ``interval`` is how often, where the user says nothing; ``stacks`` where the key has the number of a
    kernel stack, in its field ``kernel``, besides ``comm`` and ``pid``;
    ``prepare`` is called when options have values.  ``careful`` and ``placed``
    are for tools whose user says where they attach
    (:class:`osmia.lang.templates.Template`).

    Example::

        sizes = log2_hist("bytes", key=Comm)

        @tracepoint("syscalls:sys_exit_read")
        def leave(call):
            if call.ret > 0:
                sizes[current.comm].add(call.ret)

        tool = histogram(sizes, section="program")
    """
    return Histogram(hist, **named)


def count_table(map: Map, columns: Sequence[Col], **named: Any) -> CountTable:
    """Show ``map`` (key → number) as a table every interval, or at the end.

    Named parameters: ``banner`` is printed first; ``more`` has further maps
    with the same keys, by the name that their numbers have for columns;
    ``sort`` orders entries, largest first, and ``most`` is how many are shown;
    ``text`` makes what is printed in place of the table from the entries and
    the seconds they took; ``interval`` is how often, where the user says
    nothing; with ``duration`` the argument says how long to trace, and that is
    how long where it does not; ``name`` makes a name of a key, and adds up what has the same one;
    ``screen`` is the option that keeps a terminal from being cleared before each
    page of a table that is read as ``top`` is; ``taken`` (True) empties the maps with
    each summary, for keys that come and go; ``prepare`` is called when options
    have values.  ``careful`` and ``placed`` are for tools whose user says where
    they attach (:class:`osmia.lang.templates.Template`).

    Example::

        reads = Hash[u32, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            reads[current.tgid] += 1

        tool = count_table(reads, [Col("key", "PID", 8), Col("count")], banner="Counting reads")
    """
    return CountTable(map, columns, **named)


def stack_table(map: Map, stacks: Stacks, **named: Any) -> StackTable:
    """Show ``map`` (key with numbers of stacks → number) as stacks, at the end, smallest first.

    The key is an :class:`osmia.Event` with the fields ``pid``, ``comm``, ``user``
    and ``kernel`` (numbers of ``stacks``; 0 shows nothing), and ``since`` of
    :func:`osmia.lang.images.image`, if user stacks of processes that end
    are to be named; ``tid``, where there is one, is shown instead of ``pid``.
    Keys that look the same when shown are added up.

    Named arguments: ``unit`` of the numbers and ``divisor`` (values are divided
    by it when shown), ``parts`` where a row is something else than program,
    user stack and kernel stack (see :class:`osmia.lang.templates.StackPart`),
    ``banner``, ``folded`` (an option: one line a stack, for flame-graph
    scripts), ``annotate`` and ``delimiter`` (options, as bcc's ``-a`` and
    ``-d``), ``offsets`` (an option: how far into its function each frame is),
    ``waiting`` (colours for time off the CPU), ``intervals`` (whether a
    summary every so many seconds can be asked for), ``careful`` (the user says where
    it attaches: they are told what that costs), ``copies`` and ``copied`` (the
    ring of :mod:`osmia.lang.copies`, and an option: whether it is used), ``one_by_one`` and ``recorded`` (see
    :class:`osmia.lang.templates.StackTable`), ``who`` (key to the line
    under the frames, none where that is empty), ``prepare``.  Stacks that were cut have a frame
    ``[truncated]``.

    Example::

        stacks = Stacks()

        class Key(Event):
            pid: u32
            comm: Comm
            user: u32
            kernel: u32

        reads = Hash[Key, u64]()

        @tracepoint("syscalls:sys_enter_read")
        def read(call):
            key = Key(pid=current.tgid, comm=current.comm, user=stacks.user(), kernel=stacks.kernel())
            reads[key] += 1

        tool = stack_table(reads, stacks, unit="reads")
    """
    return StackTable(map, stacks, **named)
