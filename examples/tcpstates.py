# SPDX-License-Identifier: Apache-2.0
"""Print each change of state of TCP connections (states are numbered as in net/tcp_states.h; 1: established)."""

from osmia import run, tracepoint

TCP = 6  # IPPROTO_TCP


@tracepoint("sock:inet_sock_set_state")
def change(sock):
    if sock.protocol == TCP:
        print(f"port {sock.sport} to port {sock.dport}: state {sock.oldstate} -> {sock.newstate}")


run()
