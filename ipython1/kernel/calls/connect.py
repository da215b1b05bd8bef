"""Connections of clients: from the user's argument to a registered link.

Each connection has its own Tub and thus its own network connection: closing a client does not affect others.
"""

from __future__ import annotations

import os
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.checks import is_number
from ipython1.kernel.basics.error import ConnectionError, ResultNotCompleted
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.locate import locate
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, reactor_in_thread
from ipython1.kernel.host.hosts import host_identity
from ipython1.kernel.wire import messages

KILL_WAIT = 10.0
"""Seconds to wait for killed engines to unregister."""

LONGEST_TIMEOUT = 1e6
"""Seconds; longer time-outs are mistakes, and more than some event loops accept."""


class Connection:
    """A client's registered connection to one interface of a controller.

    :ivar location: the controller's location, for display.
    """

    def __init__(self, reactor: Any, tub: Any, end: ClientEnd, location: str) -> None:
        self.reactor = reactor
        self.end = end
        self.location = location
        self._tub = tub
        self._closer: weakref.finalize[..., Connection] | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._closer is not None:
            self._closer.detach()
        tub, self._tub = self._tub, None
        await _close(tub, self.end)

    def close_when_unused(self, first: Callable[[], Deferred[None]] | None = None) -> None:
        """Close the connection when this object is garbage-collected; calls in progress keep it alive.

        :param first: called in the reactor's thread before that; the connection is closed when its Deferred has
            fired.  It must not refer to this object.
        """
        self._closer = weakref.finalize(self, _close_soon, self.reactor, self._tub, self.end, first)
        self._closer.atexit = False

    def close_blocking(self) -> None:
        """Close the connection; from any thread but the reactor's."""
        blockingCallFromThread(self.close)

    async def kill(self, targets: Sequence[int] | None, controller: bool) -> None:
        """End engines, and optionally the controller, and wait until they have unregistered.

        :raises ResultNotCompleted: if that takes more than :data:`KILL_WAIT` seconds.
        """
        end = self.end
        try:
            ids = await end.ask("kill", targets=targets, controller=controller)
        except ConnectionError:
            if not controller:
                raise
            return
        left = set(ids) & end.ids
        gone: Deferred[None] = Deferred()

        def changed(now: list[int]) -> None:
            if not left & set(now) and not gone.called and not controller:
                gone.callback(None)

        def lost(reason: str) -> None:
            if not gone.called:
                gone.callback(None)

        end.on_ids_changed(changed)
        end.on_lost.append(lost)
        changed(sorted(end.ids))
        if not end.connected:
            lost("")
        gone.addTimeout(KILL_WAIT, self.reactor)
        try:
            await gone
        except DeferredTimeout:
            raise ResultNotCompleted(
                f"engines still registered {KILL_WAIT:g} s after kill: {sorted(left)}"
            ) from None
        finally:
            end.remove_ids_callback(changed)
            end.on_lost.remove(lost)


async def _close(tub: Any, end: ClientEnd) -> None:
    from ipython1.kernel.tub import tubs

    if tub is not None:
        await tubs.close(tub)
    end.close()


def _close_soon(
    reactor: Any, tub: Any, end: ClientEnd, first: Callable[[], Deferred[None]] | None
) -> None:
    """Close a connection; the garbage collector may call this in any thread, at any point."""
    reactor.callFromThread(lambda: Deferred.fromCoroutine(_close_after(tub, end, first)))


async def _close_after(
    tub: Any, end: ClientEnd, first: Callable[[], Deferred[None]] | None
) -> None:
    if first is not None:
        try:
            await first()
        except ConnectionError:
            pass  # it is closed already
    await _close(tub, end)


def _check_timeout(timeout: object) -> None:
    if not is_number(timeout):
        raise TypeError(f"timeout must be a number of seconds, not {timeout!r}")
    if not 0 <= float(timeout) <= LONGEST_TIMEOUT:
        raise ValueError(
            f"timeout must be a number of seconds from 0 to {LONGEST_TIMEOUT:g}, not {timeout!r}"
        )


async def open_connection(
    reactor: Any, furl_or_file: Any, interface: str, timeout: float
) -> Connection:
    """Connect to an interface of a controller.

    :param furl_or_file: see :func:`~ipython1.kernel.calls.locate.locate`.
    :param interface: ``'multiengine'``, ``'task'``, or the name of a custom interface.
    :param timeout: the maximum time in total, in seconds.
    :raises KernelError: if no connection can be made; the message says why.
    :raises TypeError, ValueError: if ``timeout`` is invalid.
    """
    _check_timeout(timeout)
    from ipython1.kernel.tub import tubs
    from ipython1.kernel.tub.gate import register
    from ipython1.kernel.wire.link import FrameLink, TurnFlusher

    place = locate(furl_or_file, interface)
    tub = tubs.make_tub()
    try:
        begun = reactor.seconds()
        gate = await tubs.connect(tub, str(place.furl), timeout, reactor)
        origin = uuid.uuid4()
        end = ClientEnd(origin.bytes)
        flusher = TurnFlusher(lambda flush: reactor.callLater(0, flush))
        link = FrameLink(flusher, end)
        hello = messages.Hello(
            uuid=origin.hex, pid=os.getpid(), host=host_identity(), role=interface
        )
        left = max(timeout - (reactor.seconds() - begun), 0.1)
        end.attach(link, await register(gate, hello, link, left, reactor))
        return Connection(reactor, tub, end, place.description)
    except BaseException:
        await tubs.close(tub)
        raise


def connect_blocking(furl_or_file: Any, interface: str, timeout: float) -> Connection:
    """Connect like :func:`open_connection`, but block; starts the reactor's thread if necessary.

    An existing :class:`Connection` is returned as it is.
    """
    if isinstance(furl_or_file, Connection):
        return furl_or_file
    reactor = reactor_in_thread.start()
    connection: Connection = blockingCallFromThread(
        open_connection, reactor, furl_or_file, interface, timeout
    )
    reactor_in_thread.attend(connection.end)
    return connection
