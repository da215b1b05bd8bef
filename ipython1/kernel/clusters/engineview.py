"""What a running cluster sees of its controller: which engines there are."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from twisted.internet.defer import Deferred

from ipython1.kernel.wire.loads import ClusterLoad


class EnginesView(Protocol):
    """What the service needs of the controller: an asynchronous MultiEngine client."""

    def get_ids(self) -> Deferred[list[int]]:
        """The ids of the registered engines."""

    def on_engines_changed(self, callback: Callable[[list[int]], None]) -> None:
        """Tell whenever those change."""

    def on_warnings(self, callback: Callable[[list[str]], None]) -> None:
        """Tell what is wrong with the controller, one line each, now and whenever that changes."""

    def on_connection_lost(self, callback: Callable[[str], None]) -> None:
        """Tell when the controller is gone."""

    def load(self) -> Deferred[ClusterLoad]:
        """How busy the controller and its engines are."""

    def drain(self, targets: list[int]) -> Deferred[Any]:
        """Give engines no more tasks; fires when they have no task and no command left."""

    def undrain(self, targets: list[int]) -> Deferred[Any]:
        """Give engines tasks again."""

    def kill(self, controller: bool = False, targets: Any = None) -> Deferred[Any]:
        """End engines."""

    def close(self) -> Deferred[Any]:
        """End the connection."""


def preload() -> None:
    """Import what :func:`connect_to_controller` needs, while there is nothing else to do."""
    import ipython1.kernel.clients.asyncclient  # noqa: F401
    from ipython1.kernel.tub import tubs

    tubs.preload()


def connect_to_controller(furl_file: str, timeout: float) -> Deferred[EnginesView]:
    """An asynchronous client, for the service."""
    from ipython1.kernel.clients.asyncclient import get_multiengine_client

    return get_multiengine_client(furl_file, timeout)
