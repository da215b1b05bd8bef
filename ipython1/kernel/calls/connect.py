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

from ipython1.checks import check_seconds
from ipython1.kernel.basics.error import ConnectionError, KernelError, ResultNotCompleted
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.calls.linkkeeper import LinkKeeper
from ipython1.kernel.calls.sshroute import check_ssh
from ipython1.kernel.calls.twistedutil import blockingCallFromThread, reactor_in_thread
from ipython1.kernel.host import clientconfig
from ipython1.kernel.host.hosts import host_identity, user_label
from ipython1.kernel.wire import messages

KILL_WAIT = 10.0
"""Seconds to wait for killed engines to unregister."""

LONGEST_TIMEOUT = 1e6
"""Seconds; longer time-outs are mistakes, and more than some event loops accept."""


class Connection:
    """A client's registered connection to one interface of a controller.

    :ivar location: the controller's location, for display.
    """

    def __init__(
        self, reactor: Any, keeper: LinkKeeper | None, end: ClientEnd, location: str
    ) -> None:
        self.reactor = reactor
        self.end = end
        self.location = location
        self._keeper = keeper
        self._closer: weakref.finalize[..., Connection] | None = None

    async def close(self) -> None:
        """Close the connection."""
        if self._closer is not None:
            self._closer.detach()
        keeper, self._keeper = self._keeper, None
        await _close(keeper, self.end)

    def close_when_unused(self, first: Callable[[], Deferred[None]] | None = None) -> None:
        """Close the connection when this object is garbage-collected; calls in progress keep it alive.

        :param first: called in the reactor's thread before that; the connection is closed when its Deferred has
            fired.  It must not refer to this object.
        """
        self._closer = weakref.finalize(
            self, _close_soon, self.reactor, self._keeper, self.end, first
        )
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
        if not end.usable:
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


async def _close(keeper: LinkKeeper | None, end: ClientEnd) -> None:
    if keeper is not None:
        await keeper.close()
    end.close()


def _close_soon(
    reactor: Any,
    keeper: LinkKeeper | None,
    end: ClientEnd,
    first: Callable[[], Deferred[None]] | None,
) -> None:
    """Close a connection; the garbage collector may call this in any thread, at any point."""
    reactor.callFromThread(lambda: Deferred.fromCoroutine(_close_after(keeper, end, first)))


async def _close_after(
    keeper: LinkKeeper | None, end: ClientEnd, first: Callable[[], Deferred[None]] | None
) -> None:
    if first is not None:
        try:
            await first()
        except ConnectionError:
            pass  # it is closed already
    await _close(keeper, end)


async def open_connection(
    reactor: Any,
    furl_or_file: Any,
    interface: str,
    timeout: float,
    reconnect_timeout: float | None = None,
    ssh: Any = None,
) -> Connection:
    """Connect to an interface of a controller.

    :param furl_or_file: see :func:`~ipython1.kernel.calls.locate.locate`.
    :param interface: ``'multiengine'``, ``'task'``, or the name of a custom interface.
    :param timeout: the maximum time in total, in seconds.
    :param reconnect_timeout: seconds for which a controller that is away is waited for; None for the setting
        of the ini file.
    :param ssh: a host to log in to, where the FURL file is and from where to connect; None to connect directly.
        See :func:`~ipython1.kernel.calls.sshroute.check_ssh`.
    :raises KernelError: if no connection can be made; the message says why.
    :raises TypeError, ValueError: if a time or ``ssh`` is invalid.
    """
    check_seconds("timeout", timeout, most=LONGEST_TIMEOUT)
    if reconnect_timeout is None:
        reconnect_timeout = clientconfig.reconnect_timeout()
    check_seconds("reconnect_timeout", reconnect_timeout, most=LONGEST_TIMEOUT)
    login = check_ssh(ssh)
    origin = uuid.uuid4()
    end = ClientEnd(origin.bytes)
    hello = messages.Hello(
        uuid=origin.hex,
        pid=os.getpid(),
        host=host_identity(),
        role=interface,
        secret=messages.new_secret(),
        label=user_label(),
    )
    keeper = LinkKeeper(reactor, end, furl_or_file, hello, reconnect_timeout, login)
    await keeper.open(timeout)
    return Connection(reactor, keeper, end, keeper.place.description)


def connect_blocking(
    furl_or_file: Any,
    interface: str,
    timeout: float,
    reconnect_timeout: float | None = None,
    ssh: Any = None,
) -> Connection:
    """Connect like :func:`open_connection`, but block; starts the reactor's thread if necessary.

    An existing :class:`Connection` is returned as it is.

    :raises KernelError, TypeError, ValueError: as for :func:`open_connection`, without a traceback through the reactor.
    """
    from ipython1.kernel.tub import tubs

    if isinstance(furl_or_file, Connection):
        return furl_or_file
    # Not left to the reactor's thread: Python up to 3.13 ends by SIGABRT if the program ends while another thread
    # loads a module that is written in Rust or C++.
    tubs.preload()
    reactor = reactor_in_thread.start()
    try:
        connection: Connection = blockingCallFromThread(
            open_connection, reactor, furl_or_file, interface, timeout, reconnect_timeout, ssh
        )
    except (KernelError, TypeError, ValueError) as problem:
        raise problem.with_traceback(None) from None
    reactor_in_thread.attend(connection.end)
    return connection
