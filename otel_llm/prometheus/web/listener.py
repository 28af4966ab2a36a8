"""Connections to a port: how many there may be, and how long each may take for what it does."""

from __future__ import annotations

import logging
import selectors
import socket
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Lock, Thread

logger = logging.getLogger("otel_llm")

MOST = 64
"""Connections at once. One more closes the one that waits longest."""
REQUEST_SECONDS = 10.0
"""From the connection, or from the first byte of a later request, until the end of a request, with its handshake."""
IDLE_SECONDS = 90.0
"""Between two requests; Prometheus asks once in a minute unless it is told otherwise."""
ANSWER_SECONDS = 30.0
"""For an answer to be taken."""
LINGER_SECONDS = 1.0
"""For the rest of a request that is not read any further."""
_LOOK_SECONDS = 0.5


class Connection:
    """A client, and until when it may go on as it does; whoever is late finds the connection at its end.

    Args:
        client: its socket, which TLS may replace.
    """

    def __init__(self, client: socket.socket) -> None:
        self.socket = client
        self.waiting_since: float | None = time.monotonic()
        self.deadline = time.monotonic() + REQUEST_SECONDS
        self.ended = False

    def wait(self, seconds: float) -> None:
        """Wait for the client; where room is needed, for whom we wait longest goes first."""
        self.waiting_since = time.monotonic()
        self.deadline = self.waiting_since + seconds

    def work(self) -> None:
        """Make an answer, which takes as long as it takes."""
        self.waiting_since, self.deadline = None, float("inf")

    def send(self) -> None:
        """Send an answer."""
        self.deadline = time.monotonic() + ANSWER_SECONDS

    def drain(self) -> None:
        """Take in the rest of a request: the kernel resets a connection with unread bytes, and the answer is lost."""
        self.wait(LINGER_SECONDS)
        with suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_WR)
            while socket.socket.recv(self.socket, 1 << 16):
                pass

    def cut(self) -> None:
        """Have whoever reads or writes find the end.

        By the plain socket: TLS would take back the encryption first, and what comes in between would be read as text.
        """
        self.ended = True
        with suppress(OSError):
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


class Listener:
    """Hands each connection to a thread of its own, none of which keeps the process from ending.

    Accepting waits for nobody: what a client can delay is done in its thread.

    Args:
        host: name or address.
        port: 0 for any that is free.
        serve: what a thread does with a connection.

    Raises:
        OSError: the address cannot be bound.
    """

    def __init__(self, host: str, port: int, serve: Callable[[Connection], None]) -> None:
        try:
            family, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        except UnicodeError as error:  # a label of the host name is empty or too long
            raise OSError(f"{host!r} is no host name: {error}") from error
        except socket.gaierror as error:
            raise socket.gaierror(error.errno, f"host {host!r}: {error.strerror}") from error
        both = family == socket.AF_INET6 and socket.has_dualstack_ipv6()
        self._socket = socket.create_server(place[:2], family=family, backlog=MOST, dualstack_ipv6=both)  # pyright: ignore[reportArgumentType]
        self._socket.setblocking(False)
        self.port: int = self._socket.getsockname()[1]
        self._serve = serve
        self._lock = Lock()
        self._connections: set[Connection] = set()
        self._wake, woken = socket.socketpair()
        self._woken = woken
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._socket, selectors.EVENT_READ)
        self._selector.register(woken, selectors.EVENT_READ)
        self._thread = Thread(target=self._run, name="otel_llm page", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port and end every connection."""
        self._wake.send(b"x")
        self._thread.join()
        with self._lock:
            for connection in self._connections:
                connection.cut()
        self._let_go()

    def leave(self) -> None:
        """Let go of all sockets in a forked child, or the port would stay taken when the parent has closed it."""
        # The threads that would close the connections are not there, and one may have had the lock.
        for connection in list(self._connections):
            with suppress(OSError):
                # Not by its own close(), which would wait for the file through which the thread wrote.
                socket.close(connection.socket.detach())
        self._let_go()

    def _let_go(self) -> None:
        for each in (self._selector, self._socket, self._wake, self._woken):
            each.close()

    def _run(self) -> None:
        while True:
            # Who is late matters only while somebody is there.
            ready = self._selector.select(_LOOK_SECONDS if self._connections else None)
            if any(key.fileobj is self._woken for key, _ in ready):
                return
            if ready:
                self._accept()
            now = time.monotonic()
            with self._lock:
                for connection in self._connections:
                    if connection.deadline < now:
                        connection.cut()

    def _accept(self) -> None:
        try:
            client, _ = self._socket.accept()
        except BlockingIOError:
            return
        except OSError:  # out of descriptors, most likely, and until some are free there is nothing to do
            time.sleep(0.1)
            return
        client.settimeout(ANSWER_SECONDS)
        connection = Connection(client)
        with self._lock:
            room = len(self._connections) < MOST or self._make_room()
            if room:
                self._connections.add(connection)
        try:
            if room:
                Thread(target=self._attend, args=(connection,), name="otel_llm request", daemon=True).start()
                return
        except RuntimeError:  # no more threads, or the interpreter is ending
            logger.debug("otel_llm: no thread for a request", exc_info=True)
        self._end(connection)

    def _make_room(self) -> bool:
        """Cut the connection that waits longest; there is none if all are being answered."""
        waiting = [(each.waiting_since, id(each), each) for each in self._connections if each.waiting_since is not None]
        if not waiting:
            return False
        *_, oldest = min(waiting)
        self._connections.discard(oldest)
        oldest.cut()
        return True

    def _attend(self, connection: Connection) -> None:
        try:
            self._serve(connection)
        except Exception:
            # Most often, the client hung up.
            logger.debug("otel_llm: a request failed", exc_info=True)
        finally:
            self._end(connection)

    def _end(self, connection: Connection) -> None:
        # Under the lock, so that nobody cuts what is by then another's descriptor.
        with self._lock:
            self._connections.discard(connection)
            connection.cut()  # a forked child may have the socket too, and the client would wait for it
            connection.socket.close()
