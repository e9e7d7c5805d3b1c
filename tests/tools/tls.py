# SPDX-License-Identifier: Apache-2.0
"""Both ends of TLS connections in one process, which does what it is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from harness import Told

#: "talk N WAIT": a connection over which N messages of 10 bytes go, each answered with 3 bytes after WAIT seconds;
#: "refuse": a handshake that fails, because the client does not trust the server;
#: "exchange FILE": a connection over which the messages in it go (lines with "<" or ">" and the bytes in hexadecimal),
#: from the server to the client or the other way, each in one call.
PROGRAM = """
import socket, ssl, sys, threading, time
server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server.load_cert_chain(sys.argv[1] + "/cert.pem", sys.argv[1] + "/key.pem")
server.num_tickets = 0
client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
client.check_hostname = False

def serve(one, times, wait):
    try:
        with server.wrap_socket(one, server_side=True) as tls:
            for _ in range(times):
                tls.recv(100)
                time.sleep(wait)
                tls.send(b"yes")
    except OSError:
        one.close()

def connect(times, wait, trusted):
    near, far = socket.socketpair()
    thread = threading.Thread(target=serve, args=(far, times, wait))
    thread.start()
    client.verify_mode = ssl.CERT_NONE if trusted else ssl.CERT_REQUIRED
    try:
        with client.wrap_socket(near) as tls:
            for _ in range(times):
                tls.send(b"0123456789")
                tls.recv(100)
    except ssl.SSLError:
        near.close()
    thread.join()

def exchange(path):
    near, far = socket.socketpair()
    client.verify_mode = ssl.CERT_NONE
    made = []
    thread = threading.Thread(target=lambda: made.append(server.wrap_socket(far, server_side=True)))
    thread.start()
    with client.wrap_socket(near) as here:
        thread.join()
        for line in open(path):
            way, *text = line.split()
            data = bytes.fromhex("".join(text))
            source, target = (here, made[0]) if way == ">" else (made[0], here)
            thread = threading.Thread(target=source.send, args=(data,))
            (thread.run if len(data) < 10000 else thread.start)()  # more may not fit on the way
            left = len(data)
            while left:
                left -= len(target.recv(100000))
            if thread.ident:
                thread.join()
    made[0].close()

print(flush=True)
for line in sys.stdin:
    what, *words = line.split()
    if what == "talk":
        connect(int(words[0]), float(words[1]), True)
    elif what == "exchange":
        exchange(words[0])
    else:
        connect(0, 0, False)
    print("done", flush=True)
"""


class Tls(Told):
    """The program, with a certificate of its own."""

    program = PROGRAM

    def __init__(self, directory: Path) -> None:
        subprocess.run(
            ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(directory / "key.pem"), "-out",
             str(directory / "cert.pem"), "-days", "2", "-subj", "/CN=localhost"], check=True, capture_output=True,
        )  # fmt: skip
        self.directory = directory
        (directory / "tls.py").write_text(self.program)
        super().__init__(sys.executable, str(directory / "tls.py"), str(directory))
        assert self.process.stdout and self.process.stdout.readline() == "\n"

    def talk(self, times: int, wait: float = 0.0) -> None:
        assert self.tell(f"talk {times} {wait}") == "done\n"

    def exchange(self, *messages: tuple[str, bytes]) -> None:
        """Messages from the client (``>``) or to it (``<``)."""
        path = self.directory / "messages"
        path.write_text("".join([f"{way} {data.hex()}\n" for way, data in messages]))
        assert self.tell(f"exchange {path}") == "done\n"

    def refuse(self) -> None:
        assert self.tell("refuse") == "done\n"


#: "openssl N", "gnutls N", "nss N": N messages, "ask NNN", and their answers, "answer NNN", by functions of
#: that library (of NSS without encryption: by half of them to a pipe, which has no answers).
OTHERS = """
import ctypes, socket, sys, threading
from ctypes import byref, c_char_p, c_int, c_long, c_void_p, create_string_buffer, string_at

def library(name, *pointers):
    found = ctypes.CDLL(name)
    for one in pointers:
        getattr(found, one).restype = c_void_p
    return found

def both(near, far, start):
    thread = threading.Thread(target=start, args=(far, True))
    thread.start()
    start(near, False)
    thread.join()

def talk(times, send, receive, answers=True):
    for n in range(times):
        send(0, b"ask %03d" % n)
        receive(1, 100)
        if answers:
            send(1, b"answer %03d" % n)
            receive(0, 100)

def openssl(times, directory):
    ssl = library("libssl.so.3", "TLS_method", "SSL_CTX_new", "SSL_new")
    ends = {}
    def start(one, server):
        context = c_void_p(ssl.SSL_CTX_new(c_void_p(ssl.TLS_method())))
        if server:
            ssl.SSL_CTX_use_certificate_file(context, c_char_p((directory + "/cert.pem").encode()), 1)
            ssl.SSL_CTX_use_PrivateKey_file(context, c_char_p((directory + "/key.pem").encode()), 1)
            ssl.SSL_CTX_ctrl(context, 94, c_long(0), None)
        ends[server] = c_void_p(ssl.SSL_new(context))
        ssl.SSL_set_fd(ends[server], one.fileno())
        assert (ssl.SSL_accept if server else ssl.SSL_connect)(ends[server]) == 1
    near, far = socket.socketpair()
    both(near, far, start)
    def receive(end, size):
        assert ssl.SSL_read(ends[end], create_string_buffer(size), size) > 0
    talk(times, lambda end, text: ssl.SSL_write(ends[end], text, len(text)), receive)

def gnutls(times, directory):
    lib = library("libgnutls.so.30")
    lib.gnutls_record_send.argtypes = lib.gnutls_record_recv.argtypes = c_void_p, c_void_p, ctypes.c_size_t
    ends = {}
    def start(one, server):
        session, secret = c_void_p(), c_void_p()
        lib.gnutls_init(byref(session), 1 if server else 2)
        lib.gnutls_priority_set_direct(session, b"NORMAL:-VERS-ALL:+VERS-TLS1.2:+ANON-ECDH", None)
        make = lib.gnutls_anon_allocate_server_credentials if server else lib.gnutls_anon_allocate_client_credentials
        make(byref(secret))
        lib.gnutls_credentials_set(session, 2, secret)
        lib.gnutls_transport_set_int2(session, one.fileno(), one.fileno())
        assert lib.gnutls_handshake(session) == 0
        ends[server] = session
    near, far = socket.socketpair()
    both(near, far, start)
    def receive(end, size):
        assert lib.gnutls_record_recv(ends[end], create_string_buffer(size), size) > 0
    talk(times, lambda end, text: lib.gnutls_record_send(ends[end], text, len(text)), receive)

def nss(times, directory):
    lib = library("libnspr4.so")
    ends = (c_void_p * 2)()
    assert lib.PR_CreatePipe(byref(ends, 8), ends) == 0
    pipe = [c_void_p(one) for one in ends]
    talk(times, lambda end, text: lib.PR_Write(pipe[end], text, len(text)),
         lambda end, size: lib.PR_Read(pipe[end], create_string_buffer(size), size), answers=False)
    assert lib.PR_NewTCPSocketPair(ends) == 0
    pair = [c_void_p(one) for one in ends]
    talk(times, lambda end, text: lib.PR_Send(pair[end], text, len(text), 0, -1),
         lambda end, size: lib.PR_Recv(pair[end], create_string_buffer(size), size, 0, -1))

print(flush=True)
for line in sys.stdin:
    what, times = line.split()
    try:
        globals()[what](int(times), sys.argv[1])
        print("done", flush=True)
    except OSError as err:
        print(err, flush=True)
"""


class Others(Tls):
    """The program for libraries that Python does not use by itself."""

    program = OTHERS

    def say(self, library: str, times: int) -> str:
        """What it answers: "done", or that it has not got the library."""
        return self.tell(f"{library} {times}").strip()
