# SPDX-License-Identifier: Apache-2.0
"""deadlock against a program that takes its mutexes in orders that are known."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from harness import Commanded, Tool, osmia, patient, user_program

pytestmark = pytest.mark.kernel

ENDS = patient(20)


def functions(lines: list[str]) -> list[str]:
    """The names of the frames."""
    return [re.fullmatch(r"@ [0-9a-f]{16} ([^+]+)(\+0x[0-9a-f]+)?", line)[1] for line in lines]  # type: ignore[index]


def test_two_orders_of_two_mutexes() -> None:
    with Commanded("orders", ends=False) as orders:
        tool = Tool("deadlock", orders.pid).start()
        orders.ask("forward", 3, 5)
        orders.ask("backward", 5, 3)
        tool.wait(ENDS)
    assert tool.status == 1, tool.stderr
    text = tool.stdout
    assert text.startswith("Tracing... Hit Ctrl-C to end.\n----------------\nPotential Deadlock Detected!\n\n")
    mutex = r"Mutex M\d \(0x[0-9a-f]{16}\)"
    (cycle,) = re.findall(f"Cycle in lock order graph: ({mutex}) => ({mutex}) => ({mutex})\n", text)
    assert cycle[0] == cycle[2] != cycle[1]
    parts = [part.strip("\n").split("\n") for part in text.split("\n\n")][2:]
    ways = {}
    for second, first in (parts[0:2], parts[2:4]):
        (new, old, who), = re.findall(f"({mutex}) acquired here while holding ({mutex}) in (Thread .*):", second[0])
        assert first[0] == f"{old} previously acquired by the same {who} here:"
        assert re.fullmatch(r"Thread \d+ \(orders.program\)", who)
        names = functions(second[1:])
        assert names[:3] == ["pthread_mutex_lock", "inner", "outer"]
        assert functions(first[1:])[1:3] == ["outer", names[3]]
        ways[names[3]] = old, new
    assert ways["forward"] == ways["backward"][::-1]
    for made in parts[4:6]:
        assert re.fullmatch(rf"Thread \d+ created by Thread {orders.pid} \(orders.program\) here:", made[0])
        assert functions(made[1:])[:3] == ["pthread_create", "start", "main"]


def test_a_chain() -> None:
    """Five threads, each with an order of its own; none of them takes two mutexes that another takes."""
    with Commanded("orders", ends=False) as orders:
        tool = Tool("deadlock", "--json", "-p", orders.pid).start()
        orders.ask("chain", 5)
        tool.wait(ENDS)
    assert tool.status == 1, tool.stderr
    (found,) = tool.records()
    nodes = [mutex["address"] for mutex in found["mutexes"]]
    assert len(set(nodes)) == 5 and [mutex["name"] for mutex in found["mutexes"]] == ["M0", "M1", "M2", "M3", "M4"]
    assert [(edge["first"], edge["second"]) for edge in found["edges"]] == [
        *zip(nodes, nodes[1:] + nodes[:1], strict=True)
    ]
    assert len({edge["tid"] for edge in found["edges"]}) == len(found["threads"]) == 5
    for edge in found["edges"]:
        assert [frame["name"] for frame in edge["second_stack"]][1:4] == ["inner", "outer", "forward"]
        assert [frame["name"] for frame in edge["first_stack"]][1:3] == ["outer", "forward"]
    assert all(thread["created_by"] == int(orders.pid) for thread in found["threads"])


def test_threads_that_hang() -> None:
    """The second mutex is never had, but wanted."""
    with Commanded("orders", ends=False) as orders:
        tool = Tool("deadlock", "--json", orders.pid).start()
        orders.ask("hang")
        tool.wait(ENDS)
    (found,) = tool.records()
    assert len(found["mutexes"]) == 2
    assert all([frame["name"] for frame in edge["second_stack"]][:3] == ["pthread_mutex_lock", "inner", "hanging"]
               for edge in found["edges"])  # fmt: skip


def test_one_order_is_no_cycle(tmp_path: Path) -> None:
    """2,000 pairs in one order, a recursive mutex, and one mutex after the other are none; the graph is exact."""
    graph = tmp_path / "graph.json"
    with Commanded("orders", ends=False) as orders:
        tool = Tool("deadlock", "-p", orders.pid, "--dump-graph", str(graph)).start()
        orders.ask("many", 2000)
        orders.ask("twice")
        tool.stop()
    assert tool.status == 0, tool.stderr
    assert tool.stdout == "Tracing... Hit Ctrl-C to end.\n" and "lost" not in tool.stderr
    read = json.loads(graph.read_text())
    assert read["directed"] and len(read["nodes"]) == 64 + 1
    edges = {(read["nodes"][link["source"]]["id"], read["nodes"][link["target"]]["id"]) for link in read["links"]}
    assert len(edges) == len(read["links"]) == 63 + 2
    recursive = {first for first, second in edges if len([a for a, _ in edges if a == first]) == 2}
    assert len(recursive) == 1  # it was held during the first of two times only


def test_other_functions() -> None:
    """Functions by name, in a file by name; one that is not there is an error."""
    with Commanded("orders", ends=False) as orders:
        orders.ask("many", 1)  # the library is mapped by now
        maps = Path(f"/proc/{orders.pid}/maps").read_text()
        library = next(word for word in maps.split() if re.search(r"/libc[.-].*so", word))
        tool = Tool("deadlock", "--binary", library, "--lock-symbols", "pthread_mutex_lock,pthread_mutex_clocklock",
                    orders.pid).start()  # fmt: skip
        orders.ask("chain", 3)
        tool.wait(ENDS)
        done = osmia("deadlock", "--lock-symbols", "no_such_function", orders.pid)
    assert tool.status == 1 and tool.stdout.count(" => ") == 3
    assert done.returncode == 1 and "no_such_function" in done.stderr


def test_a_command(tmp_path: Path) -> None:
    told = tmp_path / "told"
    told.write_text("chain 4\n" + "many 20000\n" * 3)
    done = osmia("deadlock", "-c", f"sh -c 'exec {user_program('orders')} < {told}'")
    assert done.returncode == 1 and done.stdout.count(" => ") == 4, done.stderr


@pytest.mark.anywhere
def test_what_does_not_go_together() -> None:
    for words, says in (([], "which process"), (["-p", "1", "-c", "true"], "exclude"), (["-p", "1", "1"], "twice"),
                        (["--csv", "-c", "true"], "no row")):  # fmt: skip
        done = osmia("deadlock", *words)
        assert done.returncode and says in done.stderr
