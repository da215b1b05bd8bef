"""Ends the work of engines before the engines themselves are ended.

The controller gives them no more tasks, and gives to others what they have not begun.  What still runs when the time is
over goes to others as well, and does not use up a retry: it is not to blame for the end of its engine.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from twisted.internet.defer import TimeoutError as DeferredTimeout

from ipython1.kernel.basics.error import ConnectionError
from ipython1.kernel.clusters.engineview import EnginesView


class Retirement:
    """See the module's text.

    :param view: gives the controller's engines; None while it is away.
    """

    def __init__(self, reactor: Any, view: Callable[[], EnginesView | None]) -> None:
        self._reactor = reactor
        self._view = view

    async def begin(self, ids: Sequence[int], seconds: float) -> None:
        """Engines are about to be ended; return when they have nothing left to do, or the time is over.

        :param seconds: how long that may take.
        """
        view = self._view()
        if view is None:
            return
        with suppress(ConnectionError):
            drained = view.drain(ids)
            if seconds > 0:
                with suppress(DeferredTimeout):
                    await drained.addTimeout(seconds, self._reactor)
                    return
            drained.addErrback(lambda failure: None)
            await view.load()  # its answer comes when the controller knows that they are to end

    async def cancel(self, ids: Sequence[int]) -> None:
        """Engines are not ended: use them again."""
        view = self._view()
        if view is not None:
            with suppress(ConnectionError):
                await view.undrain(ids)
