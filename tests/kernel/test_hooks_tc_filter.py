# SPDX-License-Identifier: Apache-2.0
"""tc programs where the kernel has no links for them: whatever happens, nothing of ours stays on a device.

The old way is forced, so that this holds on every kernel.  Each test has two
network namespaces of its own.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernel_code import Running, running, wait_for
from netns import Network, ip, network
from patience import patient

from osmia.errors import NotPermitted, NotSupported, UserError
from osmia.kernel import features
from osmia.kernel.rtnetlink import EGRESS, FIRST_PRIORITY, INGRESS, Rtnetlink
from osmia.link import tc_filter
from osmia.link.tc_filter import FilterLink

pytestmark = [pytest.mark.kernel, pytest.mark.vm, pytest.mark.usefixtures("no_fd_leak")]

COUNT = """
n = Array[u64](2)

@tc("near0", "egress")
def leaves(packet):
    if packet.protocol == 0x0800 and packet.u8(23) == 17:
        n[0] += 1
        n[1] += packet.len

@tc("near0")
def comes(packet):
    if packet.protocol == 0x0800 and packet.u8(23) == 17:
        n[1] += 1
"""
MASTER = """
from osmia import *
n = Array[u64](2)
device = option("--device", type=str, default="lo")

@tc(device, "egress")
def leaves(packet):
    n[0] += 1

@tc(device, "ingress")
def comes(packet):
    n[1] += 1

run()
"""


@pytest.fixture
def net() -> Iterator[Network]:
    features.turn_off("tcx")
    try:
        with network() as made:
            yield made
    finally:
        features.turn_off()


def send(net: Network, count: int) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock, net.other_end():
        far = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        far.bind(("10.77.0.2", 4077))
        far.settimeout(patient(2.0))
        for at in range(count):
            sock.sendto(bytes(at + 1), ("10.77.0.2", 4077))
            assert len(far.recv(2000)) == at + 1
        far.close()


def tc(*words: str) -> Any:
    """What ``tc -j`` says."""
    done = subprocess.run(["tc", "-j", *words], capture_output=True, text=True, check=True)
    return json.loads(done.stdout or "[]")


def queues(device: str = "near0") -> list[str]:
    return [one["kind"] for one in tc("qdisc", "show", "dev", device) if one["kind"] in ("clsact", "ingress")]


def filters(direction: str, device: str = "near0") -> list[str]:
    """Names of the filters on one side, in order."""
    return [one["options"]["bpf_name"] for one in tc("filter", "show", "dev", device, direction)
            if "bpf_name" in one.get("options", {})]  # fmt: skip


def of_another(it: Running, direction: str = "egress") -> None:
    """A filter that is none of osmia's business."""
    netlink = Rtnetlink()
    netlink.add_clsact(socket.if_nametoindex("near0"))
    parent = EGRESS if direction == "egress" else INGRESS
    netlink.add_bpf(socket.if_nametoindex("near0"), parent, it.live.progs["leaves"].fd, "another")
    netlink.close()


@pytest.mark.feature("A21 tc")
def test_the_queue_comes_and_goes_with_the_filter(net: Network, record_property: Any) -> None:
    with running(COUNT) as it:
        link = it.attach("leaves", device="near0")
        assert isinstance(link, FilterLink) and queues() == ["clsact"]
        assert [re.sub("[0-9a-f]{16}", "WORD", name) for name in filters("egress")] == ["osmia+:WORD:leaves"]
        send(net, 23)
        link.close()
        assert queues() == [] and it.module.n[0] == 23
        send(net, 3)
        assert it.module.n[0] == 23
        link.close()  # twice does no harm
    record_property("row", "feature:tc without links")
    record_property("how", "clsact filter, kept by a child")


def test_one_that_was_there_stays_and_goes_first(net: Network) -> None:
    with running(COUNT) as it:
        of_another(it)
        link = it.attach("leaves", device="near0")
        assert [name.partition(":")[0] for name in filters("egress")] == ["another", "osmia"]
        places = [one["pref"] for one in tc("filter", "show", "dev", "near0", "egress") if "options" in one]
        assert places == [FIRST_PRIORITY, FIRST_PRIORITY + 1]
        send(net, 5)
        assert it.module.n[0] == 10  # each counts
        link.close()
        assert filters("egress") == ["another"] and queues() == ["clsact"]


def test_the_last_of_several_takes_the_queue(net: Network) -> None:
    with running(COUNT) as it:
        first, second, third = [it.attach(name, device="near0") for name in ("leaves", "comes", "leaves")]
        assert len(filters("egress")) == 2 and len(filters("ingress")) == 1
        first.close()
        assert len(filters("egress")) == 1 and len(filters("ingress")) == 1
        send(net, 7)
        assert it.module.n[0] == 7
        third.close()
        assert filters("egress") == [] and queues() == ["clsact"]
        second.close()
        assert queues() == []


def test_a_filter_that_comes_later_keeps_the_queue(net: Network) -> None:
    with running(COUNT) as it:
        link = it.attach("leaves", device="near0")
        of_another(it, "ingress")
        link.close()
        assert queues() == ["clsact"] and filters("egress") == [] and filters("ingress") == ["another"]


def test_an_ingress_queue_is_used_and_left(net: Network) -> None:
    subprocess.run(["tc", "qdisc", "add", "dev", "near0", "ingress"], check=True)
    with running(COUNT) as it:
        link = it.attach("comes", device="near0")
        assert [name.partition(":")[0] for name in filters("ingress")] == ["osmia"]
        link.close()
        assert queues() == ["ingress"] and filters("ingress") == []
        with pytest.raises(UserError, match=r"leaves \(near0\): .*ingress queue, which has no place for egress"):
            it.attach("leaves", device="near0")
        assert queues() == ["ingress"]


@pytest.mark.feature("A21 tc", "F8 killed with -9")
@pytest.mark.parametrize("end", ["SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_a_tool_leaves_nothing_however_it_ends(net: Network, end: str, tmp_path: Path) -> None:
    script = tmp_path / "tool.py"
    script.write_text(MASTER)
    read, write = os.pipe()
    env = {**os.environ, "OSMIA_READY_FD": str(write), "OSMIA_FEATURES_OFF": "tcx"}
    child = subprocess.Popen([sys.executable, str(script), "--device", "near0"], env=env, pass_fds=(write,),
                             stdout=subprocess.DEVNULL, start_new_session=True)  # fmt: skip
    os.close(write)
    assert os.read(read, 1) == b"x"
    os.close(read)
    assert len(filters("egress") + filters("ingress")) == 2
    send(net, 3)
    os.killpg(child.pid, getattr(signal, end))  # the whole group, as a terminal does
    child.wait(patient(30.0))
    if end == "SIGKILL":
        wait_for(lambda: not queues(), patient(20.0))
    assert queues() == []


def _kill_keeper(link: FilterLink) -> None:
    os.kill(link._keeper, signal.SIGKILL)


def test_a_tool_that_is_killed_while_it_attaches_leaves_nothing(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keeper finds nobody to answer to, and detaches all the same."""
    attach = FilterLink.attach

    def slow(link: FilterLink, prog_fd: int, name: str) -> None:
        attach(link, prog_fd, name)
        time.sleep(0.5)  # the keeper's, before it answers

    monkeypatch.setattr(FilterLink, "attach", slow)
    with running(COUNT) as it:
        child = os.fork()
        if not child:
            it.attach("leaves", device="near0")
            os._exit(0)
        wait_for(lambda: filters("egress"), patient(20.0))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        wait_for(lambda: not queues(), patient(20.0))


def test_a_keeper_that_was_killed_is_stood_in_for(net: Network) -> None:
    with running(COUNT) as it:
        link = it.attach("leaves", device="near0")
        assert isinstance(link, FilterLink)
        with open(f"/proc/{link._keeper}/comm", encoding="ascii") as comm:
            assert comm.read() == "osmia-tc-keeper\n"
        _kill_keeper(link)
        assert len(filters("egress")) == 1
        link.close()
        assert queues() == []


def test_who_comes_next_removes_what_a_dead_one_left(net: Network) -> None:
    with running(COUNT) as it:
        dead, alive = it.attach("leaves", device="near0"), it.attach("comes", device="near0")
        assert isinstance(dead, FilterLink) and isinstance(alive, FilterLink)
        left = filters("egress")
        _kill_keeper(dead)
        os.waitpid(dead._keeper, 0)
        assert filters("egress") == left
        link = it.attach("leaves", device="near0")
        now = filters("egress")
        assert len(now) == 1 and now != left and len(filters("ingress")) == 1
        for one in (alive, link, dead):
            one.close()
        assert queues() == []


def test_a_device_that_goes_away_is_no_error(net: Network) -> None:
    with running(COUNT) as it:
        link = it.attach("leaves", device="near0")
        ip("link", "del", "near0")
        link.close()


def test_refusals(net: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(number: int) -> None:
        def attach(*args: object) -> None:
            raise OSError(number, "no such thing", "rtnetlink")

        monkeypatch.setattr(FilterLink, "attach", attach)

    with running(COUNT) as it:
        refuse(2)
        with pytest.raises(NotSupported, match=r"leaves \(near0\): .*neither links .* nor clsact .*socket_filter"):
            it.attach("leaves", device="near0")
        refuse(1)
        with pytest.raises(NotPermitted, match=r"not permitted to put a filter on a network device"):
            it.attach("leaves", device="near0")
        monkeypatch.setattr(tc_filter.os, "chdir", lambda path: os._exit(3))
        with pytest.raises(UserError, match=r"the process that attaches it has died"):
            it.attach("leaves", device="near0")
    assert queues() == []


def test_the_kernel_says_what_it_did_not_like(net: Network) -> None:
    netlink = Rtnetlink()
    index = socket.if_nametoindex("near0")
    assert netlink.add_clsact(index) and not netlink.add_clsact(index) and netlink.queue_kind(index) == "clsact"
    netlink.delete_clsact(index)
    with pytest.raises(OSError, match=r"\w+"):
        netlink.delete_clsact(index)
    with pytest.raises(OSError, match=r"No such device|Cannot find"):
        netlink.add_clsact(0x7FFFFFF0)
    netlink.close()
