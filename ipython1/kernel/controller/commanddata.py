"""The arguments of a command, on their way to its engines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ipython1.kernel.wire.bulkrelay import BulkRelay
from ipython1.kernel.wire.frames import Buffer


class DataTaker(Protocol):
    """An engine that needs the data of a command."""

    def __call__(self, relay: BulkRelay | None, /) -> None:
        """The data is in :attr:`CommandData.payload`, or else ``relay`` brings it: add a sink in this turn."""


class CommandData:
    """The arguments of one command, for all of its engines.

    =========  ====================================================  ==========================================
    they are   event                                                 becomes
    =========  ====================================================  ==========================================
    here       :meth:`let_go`: no engine is to have them soon        elsewhere: with the client, or in a file
    elsewhere  :meth:`request`: the turn of an engine is near        asked for
    asked for  :meth:`came` with a payload                           here
    asked for  :meth:`came` with a relay: all that wait take it      elsewhere
    asked for  :meth:`not_coming`: the client is away                elsewhere, and wanted
    =========  ====================================================  ==========================================

    :param size: bytes.
    :param payload: the arguments, if they are small and here.
    :param coming: whether they are just coming with a relay.
    :ivar can_return: whether they can be fetched again once they are let go.
    :ivar near: whether the turn of an engine is, or was, near.
    :ivar known_before: whether the command is from before the controller's restart, so that it may have begun.
    :ivar unwanted: whether the command shall not begin any more.
    :ivar frame: that takes the command with them to any engine, once one was sent and if they are small.
    :ivar label: how the command is shown in queues, once that is known.
    """

    __slots__ = (
        "_asked",
        "_fetch",
        "_takers",
        "can_return",
        "frame",
        "known_before",
        "label",
        "near",
        "payload",
        "size",
        "unwanted",
    )

    def __init__(self, size: int, payload: Buffer | None = None, coming: bool = False) -> None:
        self.size: int = size
        self.payload = payload
        self.can_return: bool = False
        self.near: bool = False
        self.known_before: bool = False
        self.unwanted: bool = False
        self.frame: bytes = b""
        self.label: str = ""
        self._fetch: Callable[[], None] | None = None
        self._takers: dict[object, DataTaker] = {}
        self._asked = coming

    def fetch_with(self, fetch: Callable[[], None]) -> None:
        """They can be fetched by ``fetch``, after which they come with :meth:`came`."""
        self._fetch = fetch
        self.can_return = True

    @property
    def wanted(self) -> bool:
        """Whether an engine waits for them."""
        return bool(self._takers)

    def request(self, engine: object, take: DataTaker) -> None:
        """Call ``take`` when they are here, or come through here."""
        self._takers[engine] = take
        self.ask()

    def ask(self) -> None:
        """Ask for them, if somebody wants them and they were not asked for."""
        if not self._takers or self._asked or self.payload is not None:
            return
        if self._fetch is not None:
            self._asked = True
            self._fetch()

    def not_coming(self) -> None:
        """What was asked for will not come; whoever can fetch them calls :meth:`ask` when it is possible again."""
        self._asked = False

    def came(self, payload: Buffer | None, relay: BulkRelay | None = None) -> None:
        """They are here, or begin to come."""
        self._asked = False
        self.payload = payload
        takers, self._takers = self._takers, {}
        for take in takers.values():
            take(relay)

    def forget(self, engine: object) -> None:
        """An engine does not need them any more."""
        self._takers.pop(engine, None)

    def let_go(self) -> None:
        """No engine is to have them soon."""
        if self.can_return:
            self.payload = None
