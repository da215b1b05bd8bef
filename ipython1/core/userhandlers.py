"""Signal handlers of user code run while user code runs, and while nothing does; not between the lines of ours.

A handler may raise at any time, such as that of a repeating timer that a command has left behind.  In the middle of our
own work, a command would be forgotten by that, and its caller would wait for ever.

============  ============================  =====================================================================
state         event                         what happens
============  ============================  =====================================================================
user code     a signal                      its handler runs
user code     :meth:`~UserHandlers.ended`   the handlers are put aside
aside         a signal                      it is noted
aside         :meth:`~UserHandlers.begins`  the handlers are back, and run for the signals that were noted
============  ============================  =====================================================================
"""

from __future__ import annotations

import sys
import threading
from time import perf_counter  # user code may replace the one in the module
from types import FrameType
from typing import Any, Final

from ipython1.core.interrupt import get_signal, has_other_handlers, set_signal, users_handlers

LOOK_EVERY: Final = 0.001
"""Seconds of tasks after which handlers are looked for, as that takes longer than to begin a short task."""


class UserHandlers:
    """The signal handlers of user code; for the main thread, does nothing in others."""

    def __init__(self) -> None:
        self._aside: list[tuple[int, Any]] = []
        self._noted: list[int] = []
        self._looked_at = 0.0
        self._are_aside = True
        self._has_some = False
        self._main_thread = threading.main_thread().ident

    def begins(self) -> None:
        """User code begins, or a wait.

        :raises BaseException: what a handler raises.
        """
        self._are_aside = False
        if self._aside:
            self._give_back()

    def _give_back(self) -> None:
        while self._aside:
            set_signal(*self._aside[-1])
            del self._aside[-1]
        while self._noted:
            number = self._noted.pop()
            handler = get_signal(number)
            if callable(handler):
                handler(number, sys._getframe())

    def ended(self) -> None:
        """User code has ended: no handler runs any more when this returns.

        :raises BaseException: what a handler raises before that.
        """
        if self._are_aside or threading.get_ident() != self._main_thread:
            return
        self._has_some = has_other_handlers()
        if self._has_some:
            for number, handler in users_handlers():
                # If a handler raises in between, it will be here twice, and no less.
                self._aside.append((number, handler))
                set_signal(number, self._note)
        self._looked_at = perf_counter()
        self._are_aside = True

    def task_ended(self) -> None:
        """The same, for tasks: new handlers are found a little later."""
        if self._has_some or perf_counter() - self._looked_at >= LOOK_EVERY:
            self.ended()

    def put_aside(self) -> None:
        """Do what :meth:`ended` does, whatever the handlers raise."""
        while not self._are_aside:
            try:
                self.ended()
                return
            except BaseException:
                continue  # the next one will not come at once

    @property
    def some_are_aside(self) -> bool:
        """Whether there are any."""
        return bool(self._aside)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number not in self._noted:
            self._noted.append(number)
