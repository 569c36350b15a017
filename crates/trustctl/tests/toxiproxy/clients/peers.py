"""What the tests of both Python clients need: an upstream, connections through a proxy, times."""

import contextlib
import socket
import threading
import time

# A correct server never comes close to it.
DEADLINE_S = 25
# How late an echo may be on an idle machine, and how often it may be later on a busy one.
LATE_MS = 10
TRIES = 10


class Upstream:
    """A server on a free port that echoes, and closes as its clients do."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        # What clients of Toxiproxy write: a name, of which an address may be ::1.
        self.address = f"localhost:{self.port}"
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        # It ends when the listener is closed.
        with contextlib.suppress(OSError):
            while True:
                peer, _ = self.listener.accept()
                threading.Thread(target=self._echo, args=(peer,), daemon=True).start()

    @staticmethod
    def _echo(peer):
        with peer, contextlib.suppress(OSError):
            while received := peer.recv(65536):
                peer.sendall(received)


def connect(listen):
    """A connection to an address as a proxy has it: a host and a port."""
    host, port = listen.rsplit(":", 1)
    peer = socket.create_connection((host.strip("[]"), int(port)), DEADLINE_S)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return peer


def is_refused(listen):
    """Whether no one listens there."""
    try:
        connect(listen).close()
    except ConnectionRefusedError:
        return True
    return False


def echo(peer, message=b"x"):
    """How long an echo takes, in ms."""
    began = time.monotonic()
    peer.sendall(message)
    received = b""
    while len(received) < len(message):
        more = peer.recv(len(message) - len(received))
        if not more:
            raise EOFError(f"the end after {received}")
        received += more
    if received != message:
        raise ValueError(f"{received} is no echo of {message}")
    return (time.monotonic() - began) * 1000


def check_latency(peer, expected_ms):
    """An echo takes that long: never less, and hardly more when the machine has time for it."""
    times = []
    for _ in range(TRIES):
        times.append(echo(peer))
        if times[-1] < expected_ms:
            raise AssertionError(f"{times[-1]} ms, before {expected_ms} ms")
        if times[-1] <= expected_ms + LATE_MS:
            return
    raise AssertionError(f"{min(times)} ms at best in place of {expected_ms} ms")


def ends(peer):
    """Waits for the end of a connection; whether nothing came before it."""
    try:
        return peer.recv(1) == b""
    except ConnectionResetError:
        return True
