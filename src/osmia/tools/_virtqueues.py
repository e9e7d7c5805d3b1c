# SPDX-License-Identifier: Apache-2.0
"""Kernel half: requests that drivers put into the queues of virtio devices, entry by entry.

There is no tracepoint of virtio's, so functions of ``drivers/virtio/virtio_ring.c``
are traced.  A request is one or more scatter-gather lists: first those that the
device reads, then those that it writes.
"""

from __future__ import annotations

from osmia.lang.builtins import cast, exists, kernel_str, lost, read_kernel, sizeof
from osmia.lang.drift import loops_are_long
from osmia.lang.function_probes import fentry, kprobe
from osmia.lang.maps import Hash
from osmia.lang.options import option
from osmia.lang.probes import first_of
from osmia.lang.types import Event, Str, u32, u64

TYPE_CHECKING = False
if TYPE_CHECKING:
    from osmia.lang.probes import Plan

#: Entries of a request that are walked, and those before 5.17: a queue has up to 1,024 places, most have 256 or fewer.
MOST, FEW = 4096, 256
CHAIN, LAST = 1, 2  # SG_CHAIN and SG_END of include/linux/scatterlist.h
NAME = 32


def driver_name(word):
    """What ``-d`` means; ValueError."""
    if word.replace(".", "").isdecimal():
        raise ValueError(f"{word!r} is no driver (seconds are for --duration)")
    if not 0 < len(word.encode()) < NAME:
        raise ValueError(f"{word!r} is no driver: names have 1 to {NAME - 1} bytes")
    return word


def device_number(word):
    """What ``-n`` means; ValueError."""
    number = word.removeprefix("virtio")
    if number == word or not (number.isascii() and number.isdecimal()):
        raise ValueError(f"{word!r} is no virtio device: /sys/bus/virtio/devices has them, as in virtio0")
    return int(number)


driver = option("-d", "--driver", type=Str.of(NAME), parse=driver_name, metavar="DRIVER",
                help="only devices of this driver, virtio_blk for example")  # fmt: skip
device = option("-n", "--devname", type=int, default=-1, parse=device_number, metavar="DEVICE",
                help="only this device, virtio0 for example")  # fmt: skip
lists = option("--lists", help="count scatter-gather lists, as bcc does, and not the entries in them")


class Queue(Event):
    """A queue of ``virtio3`` (device 3); ``index`` tells queues of one name apart."""

    device: u32
    index: u32
    driver: Str.of(NAME)
    queue: Str.of(NAME)


class Sums(Event):
    """What it was given: entries (with ``--lists`` lists), and bytes."""

    in_sgs: u64
    out_sgs: u64
    in_bytes: u64
    out_bytes: u64


sums = Hash[Queue, Sums](4096)
addresses = Hash[u64, u64](1024)  # see plain()


def plain(sg):
    """A list's address as a number: with the typed pointer that fentry has the verifier allows no arithmetic."""
    addresses[u64(sg)] = u64(sg)
    return addresses.pop(u64(sg), 0)


def count(vq, first, sgs, outs, ins, mapped):
    """A request of ``outs`` and ``ins`` lists, whose addresses are at ``sgs``; ``first`` is that of the first.

    ``mapped``: the entries say where the device finds it, and how long that is.
    """
    queue = cast(vq, "struct virtqueue")
    number, name = queue.vdev.index, kernel_str(queue.vdev.dev.driver.name, NAME)
    if (device >= 0 and number != device) or (driver and name != driver):
        return
    row = sums[Queue(device=number, index=queue.index, driver=name, queue=kernel_str(queue.name, NAME))]
    at, done, out_sgs, out_bytes, in_sgs, in_bytes = first, u32(0), u64(0), u64(0), u64(0), u64(0)
    link = cast(at, "struct scatterlist").page_link
    for i in range(MOST):
        if done >= outs + ins or (i >= FEW and not loops_are_long()):
            break
        entry = cast(at, "struct scatterlist")
        size = entry.dma_length if mapped and exists(entry.dma_length) else entry.length
        one = 1 if link & LAST or not lists else 0
        if done < outs:
            out_sgs, out_bytes = out_sgs + one, out_bytes + size
        else:
            in_sgs, in_bytes = in_sgs + one, in_bytes + size
        if link & LAST:
            done += 1
            at = read_kernel(sgs, u64, done) if done < outs + ins else 0
        else:
            at += sizeof("struct scatterlist")
        link = cast(at, "struct scatterlist").page_link
        if link & CHAIN:  # the list goes on there: sg_next() of lib/scatterlist.c
            at = link & ~3
            link = cast(at, "struct scatterlist").page_link
    if done < outs + ins:
        lost("ends of requests that have too many entries")
    row.in_sgs += in_sgs
    row.out_sgs += out_sgs
    row.in_bytes += in_bytes
    row.out_bytes += out_bytes


def entered(function: str, optional: bool = False) -> Plan:
    """The beginning of a function."""
    return first_of(fentry(function, optional=optional), kprobe(function, optional=optional))


@entered("virtqueue_add_sgs")
def add_sgs(vq, sgs, outs, ins):
    count(vq, read_kernel(sgs, u64), sgs, u32(outs), u32(ins), False)


@entered("virtqueue_add_outbuf")
def add_outbuf(vq, sg):
    count(vq, plain(sg), 0, 1, 0, False)


@entered("virtqueue_add_inbuf")
def add_inbuf(vq, sg):
    count(vq, plain(sg), 0, 0, 1, False)


@entered("virtqueue_add_inbuf_ctx")
def add_inbuf_ctx(vq, sg):
    """For drivers that keep something with what they hand in, since 4.12."""
    count(vq, plain(sg), 0, 0, 1, False)


# Since 6.13 those for what the driver has mapped for the device already, in functions of their own.
@entered("virtqueue_add_outbuf_premapped", optional=True)
def add_outbuf_premapped(vq, sg):
    count(vq, plain(sg), 0, 1, 0, True)


@entered("virtqueue_add_inbuf_premapped", optional=True)
def add_inbuf_premapped(vq, sg):
    count(vq, plain(sg), 0, 0, 1, True)


#: All of them.
ADDING = (add_sgs, add_outbuf, add_inbuf, add_inbuf_ctx, add_outbuf_premapped, add_inbuf_premapped)
