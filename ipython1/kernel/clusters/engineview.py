"""What a running cluster sees of its controller: which engines there are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet.defer import Deferred

from ipython1.kernel.wire.loads import ClusterLoad

if TYPE_CHECKING:
    from ipython1.kernel.clients.asyncclient import AsyncMultiEngineClient


class EnginesView(Protocol):
    """What the service needs of the controller."""

    def get_ids(self) -> Deferred[list[int]]:
        """The ids of the registered engines."""

    def on_engines_changed(self, callback: Callable[[list[int]], None]) -> None:
        """Tell whenever those change."""

    def on_warnings(self, callback: Callable[[list[str]], None]) -> None:
        """Tell what is wrong with the controller, one line each, now and whenever that changes."""

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Tell when the controller is gone."""

    def kill(self, controller: bool = False, targets: Any = None) -> Deferred[Any]:
        """End engines."""

    def drain(self, targets: Sequence[int]) -> Deferred[None]:
        """Give engines no more tasks; fires when none of them has a task or a command, or is there any more."""

    def undrain(self, targets: Sequence[int]) -> Deferred[None]:
        """Use engines again."""

    def told_ended(self, targets: Sequence[int], reason: str) -> Deferred[None]:
        """Tell that engines were ended by the system that ran them, through no fault of their tasks.

        :param reason: as the end of a sentence that begins with the engine.
        """

    def load(self) -> Deferred[ClusterLoad]:
        """How much there is to do, and which engines could be spared."""

    def close(self) -> Deferred[Any]:
        """End the connection."""


class ClientView:
    """A :class:`EnginesView` that is an asynchronous MultiEngine client.

    :param client: that client.
    """

    def __init__(self, client: AsyncMultiEngineClient) -> None:
        self.get_ids: Callable[[], Deferred[list[int]]] = client.get_ids
        self.on_engines_changed: Callable[[Callable[[list[int]], None]], None] = (
            client.on_engines_changed
        )
        self.on_warnings: Callable[[Callable[[list[str]], None]], None] = client.on_warnings
        self.on_connection_lost: Callable[[Callable[[str], None]], None] = client.on_connection_lost
        self.kill: Callable[..., Deferred[Any]] = client.kill
        self.close: Callable[[], Deferred[Any]] = client.close
        self._ask = client._connection.end.ask

    def drain(self, targets: Sequence[int]) -> Deferred[None]:
        """See :meth:`EnginesView.drain`."""
        return self._ask("drain", targets=list(targets))

    def undrain(self, targets: Sequence[int]) -> Deferred[None]:
        """See :meth:`EnginesView.undrain`."""
        return self._ask("undrain", targets=list(targets))

    def told_ended(self, targets: Sequence[int], reason: str) -> Deferred[None]:
        """See :meth:`EnginesView.told_ended`."""
        return self._ask("told_ended", targets=list(targets), reason=reason)

    def load(self) -> Deferred[ClusterLoad]:
        """See :meth:`EnginesView.load`."""
        return self._ask("load").addCallback(ClusterLoad.from_json)


def preload() -> None:
    """Import what :func:`connect_to_controller` needs, while there is nothing else to do."""
    import ipython1.kernel.clients.asyncclient  # noqa: F401
    from ipython1.kernel.tub import tubs

    tubs.preload()


def connect_to_controller(furl_file: str, timeout: float) -> Deferred[EnginesView]:
    """An asynchronous client, for the service."""
    from ipython1.kernel.clients.asyncclient import get_multiengine_client

    return get_multiengine_client(furl_file, timeout).addCallback(ClientView)
