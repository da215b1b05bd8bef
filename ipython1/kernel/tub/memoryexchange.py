"""Gets the memory that processes of one host share from one to another: descriptors over a Unix socket.

The controller listens at a random name in Linux's abstract namespace.  Who registers at a gate is told the name and a
token.  It connects when it needs to, sends one request, gets one answer, and the connection is closed::

    token (16 bytes) | b"G" | 0       with a descriptor    I give this memory       -> its number
    token (16 bytes) | b"F" | number                       I fetch this memory      -> the number, with a descriptor

Who cannot connect, as it is on another host or in another container, sends everything through its connection.  The
operating system says whether both processes are of one user.  The controller gives a party only what it has offered.
"""

from __future__ import annotations

import os
import secrets
import socket
import struct
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from twisted.logger import Logger

from ipython1.kernel.host import sharedmemory
from ipython1.kernel.host.sharedmemory import SharedMemory, map_readable
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.sharing import OwnMemory
from ipython1.system import user_id

log: Logger = Logger()

EXTRA: Final = "memory"
"""The key of the name and the token in a welcome's extra part."""

MOST_OF_ONE: Final = 3
"""Memories of one party at a time."""

MOST_BYTES: Final = 2 * 2**30
"""Bytes of all memories together."""

MOST_WAITING: Final = 128
"""Connections that have not sent their request; of more, the oldest is closed."""

TRIES: Final = 20
TRY_AGAIN: Final = 0.05
"""Seconds after which a party asks again if very many others do the same."""

_REQUEST: Final = struct.Struct("<16scI")
_ANSWER: Final = struct.Struct("<BI")
_GIVE: Final = b"G"
_FETCH: Final = b"F"


class _Waiting:
    """A socket that is to become readable, for a reactor.

    :param ready: called once, when it is; it then belongs to the callee.
    """

    def __init__(self, reactor: Any, sock: socket.socket, ready: Callable[[], None]) -> None:
        self.socket = sock
        self._reactor = reactor
        self._ready = ready
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.socket.fileno()

    def logPrefix(self) -> str:
        return "shared memory"

    def doRead(self) -> None:
        self._ready()

    def connectionLost(self, reason: Any) -> None:
        self.stop()

    def stop(self) -> None:
        """Wait no more, and close the socket."""
        self._ready = lambda: None  # what it refers to may be large
        self._reactor.removeReader(self)
        self.socket.close()


class MemoryHub:
    """The controller's part: knows all memories, and who may have which.

    :param reactor: waits for sockets.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._name = secrets.token_hex(16).encode()
        self._parties: dict[bytes, HubExchange] = {}
        self._waiting: dict[_Waiting, None] = {}
        self._numbers = count(1)
        self._fds: dict[int, tuple[int, int]] = {}
        self._bytes = 0
        listener = sharedmemory.listen(self._name)
        self._listener = _Waiting(reactor, listener, self._accept)

    def admit(self, link: FrameLink) -> dict[str, str]:
        """Let the party at the other end of ``link`` share memory; returns what it is told."""
        token = os.urandom(16)
        exchange = self._parties[token] = HubExchange(self, token, link)
        link.bulk.share(exchange)
        return {"name": self._name.decode(), "token": token.hex()}

    def close(self) -> None:
        """Stop listening."""
        self._listener.stop()
        for waiting in list(self._waiting):
            waiting.stop()
        self._waiting.clear()
        for number in list(self._fds):
            self.forget(number)

    # -- memories

    def add(self, fd: int, size: int) -> int | None:
        """A memory whose descriptor is the hub's from now on; returns its number, or None if there are too many."""
        if self._bytes + size > MOST_BYTES:
            os.close(fd)
            return None
        number = next(self._numbers)
        self._fds[number] = fd, size
        self._bytes += size
        return number

    def forget(self, number: int) -> None:
        """A memory is not used any more."""
        fd, size = self._fds.pop(number, (-1, 0))
        if fd >= 0:
            os.close(fd)
            self._bytes -= size
            for party in list(self._parties.values()):
                party.gone(number)

    def dismiss(self, token: bytes) -> None:
        """A party's link is lost."""
        self._parties.pop(token, None)

    # -- requests

    def _accept(self) -> None:
        try:
            connection, _ = self._listener.socket.accept()
        except OSError:
            return
        connection.setblocking(False)
        if sharedmemory.peer_user(connection) != user_id():
            connection.close()
            return
        waiting = _Waiting(self._reactor, connection, lambda: self._requested(waiting))
        self._waiting[waiting] = None
        if len(self._waiting) > MOST_WAITING:
            self._end(next(iter(self._waiting)))

    def _end(self, waiting: _Waiting) -> None:
        del self._waiting[waiting]
        waiting.stop()

    def _requested(self, waiting: _Waiting) -> None:
        fd = None
        try:
            message, fd = sharedmemory.receive(waiting.socket, _REQUEST.size + 1)
            number, answer_fd = self._answer(message, fd)
            sharedmemory.send(waiting.socket, _ANSWER.pack(number > 0, number), answer_fd)
        except (OSError, ValueError, struct.error) as problem:
            log.debug("a request for shared memory failed: {problem}", problem=problem)
        finally:
            if fd is not None:
                os.close(fd)
            self._end(waiting)

    def _answer(self, message: bytes, fd: int | None) -> tuple[int, int | None]:
        """Return the number of a memory, 0 if the request is refused, and the descriptor to be sent."""
        token, what, number = _REQUEST.unpack(message)
        party = self._parties.get(token)
        if party is None:
            return 0, None
        if what == _GIVE and fd is not None:
            return party.given(fd), None
        if what == _FETCH and number in party.permitted and number in self._fds:
            return number, self._fds[number][0]
        return 0, None


class HubExchange:
    """What the controller's end of one link has and may give."""

    def __init__(self, hub: MemoryHub, token: bytes, link: FrameLink) -> None:
        self._hub = hub
        self._token = token
        self._link = link
        self._held: set[int] = set()
        self.permitted: set[int] = set()

    def make(self, size: int, on_made: Callable[[OwnMemory | None], None]) -> None:
        on_made(self._make(size))

    def _make(self, size: int) -> OwnMemory | None:
        try:
            memory = SharedMemory(size)
        except (OSError, MemoryError):
            return None
        fd, memory.fd = memory.fd, -1
        number = self._hub.add(fd, size)
        if number is None:
            return None
        self._held.add(number)
        return OwnMemory(number, memory.view, partial(self.withdrawn, number), offer=True)

    def given(self, fd: int) -> int:
        """The party gives memory; returns its number, or 0.

        :raises OSError, ValueError: if it is not as it should be.
        """
        memory = self._link.bulk.memory
        if memory is None or self._link.lost or len(self._held) >= MOST_OF_ONE:
            return 0
        view = map_readable(fd)
        number = self._hub.add(os.dup(fd), len(view))
        if number is None:
            return 0
        self._held.add(number)
        memory.add(number, view)
        return number

    def fetch(self, number: int, on_fetched: Callable[[memoryview | None], None]) -> None:
        on_fetched(None)

    def may_fetch(self, number: int) -> None:
        self.permitted.add(number)

    def withdrawn(self, number: int) -> None:
        if number in self._held:
            self._held.discard(number)
            self._hub.forget(number)

    def gone(self, number: int) -> None:
        """A memory is gone, whoever had it."""
        if number in self.permitted:
            self.permitted.discard(number)
            if self._link.bulk.memory is not None:
                self._link.bulk.memory.gone(number)

    def close(self) -> None:
        self._hub.dismiss(self._token)
        for number in list(self._held):
            self.withdrawn(number)


class PartyExchange:
    """A client's or an engine's part.

    :param told: what its welcome says.
    """

    def __init__(self, told: dict[str, str], reactor: Any) -> None:
        self._name = told["name"].encode()
        self._token = bytes.fromhex(told["token"])
        self._reactor = reactor
        self._waiting: dict[_Waiting, Callable[[int, int | None], None]] = {}
        self._closed = False

    def make(self, size: int, on_made: Callable[[OwnMemory | None], None]) -> None:
        try:
            memory = SharedMemory(size)
        except (OSError, MemoryError):
            on_made(None)
            return

        def answered(number: int, fd: int | None) -> None:
            memory.close()
            on_made(OwnMemory(number, memory.view, lambda: None) if number else None)

        self._ask(_GIVE, 0, memory.fd, answered)

    def fetch(self, number: int, on_fetched: Callable[[memoryview | None], None]) -> None:
        def answered(told: int, fd: int | None) -> None:
            view = None
            if told == number and fd is not None:
                try:
                    view = map_readable(fd)
                except (OSError, ValueError):
                    log.failure("memory of another process cannot be mapped")
            on_fetched(view)

        self._ask(_FETCH, number, None, answered)

    def _ask(
        self,
        what: bytes,
        number: int,
        fd: int | None,
        answered: Callable[[int, int | None], None],
        tries: int = TRIES,
    ) -> None:
        try:
            connection = sharedmemory.connect(self._name)
        except BlockingIOError:
            if tries and not self._closed:  # many others ask now
                again = partial(self._ask, what, number, fd, answered, tries - 1)
                self._reactor.callLater(TRY_AGAIN, again)
            else:
                answered(0, None)
            return
        except OSError:
            answered(0, None)  # it is on another host
            return
        try:
            sharedmemory.send(connection, _REQUEST.pack(self._token, what, number), fd)
        except OSError:
            connection.close()
            answered(0, None)
            return
        waiting = _Waiting(self._reactor, connection, lambda: self._answer(waiting))
        self._waiting[waiting] = answered

    def _answer(self, waiting: _Waiting) -> None:
        fd = None
        number = 0
        try:
            message, fd = sharedmemory.receive(waiting.socket, _ANSWER.size)
            good, told = _ANSWER.unpack(message)
            number = told if good else 0
        except (OSError, struct.error):
            pass  # it was refused
        answered = self._waiting.pop(waiting)
        waiting.stop()
        try:
            answered(number, fd)
        finally:
            if fd is not None:
                os.close(fd)

    def may_fetch(self, number: int) -> None:
        """A party offers nothing."""

    def withdrawn(self, number: int) -> None:
        """What was fetched is not used any more."""

    def close(self) -> None:
        self._closed = True
        waiting, self._waiting = self._waiting, {}
        for each, answered in waiting.items():
            each.stop()
            answered(0, None)
