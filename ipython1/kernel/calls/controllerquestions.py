"""What clients ask the controller itself: about engines, their queues, and what was.

The controller also answers while engines are busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from ipython1.checks import check_bool, check_int, check_seconds, is_number
from ipython1.kernel.basics.attributes import CheckedAttributes, Setting, yes_or_no
from ipython1.kernel.basics.publicmethods import reports_errors
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.callhistory import CallHistory
from ipython1.kernel.calls.calls import Request, Targets, check_targets, normalize_targets
from ipython1.kernel.calls.connect import Connection
from ipython1.kernel.calls.othernames import MULTIENGINE
from ipython1.kernel.calls.resultlist import QueueStatusList
from ipython1.kernel.calls.stacklist import InterruptList, StackList
from ipython1.kernel.wire.callhistory import CallEntry

MOST_CALLS: Final = 10_000
"""Calls that :meth:`ControllerQuestions.history` gives."""


@reports_errors
class ControllerQuestions(CheckedAttributes):
    """The part of the MultiEngine clients for which the engines run nothing."""

    _elsewhere = MULTIENGINE

    targets: Setting[Targets] = Setting("all", check_targets)
    block: Setting[bool] = Setting(True, yes_or_no)

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} of {self._connection.location}: "
            f"targets={self.targets!r}, block={self.block}>"
        )

    def _repr_html_(self) -> str:
        from ipython1.notebook.cards import client_html

        end = self._connection.end
        rows = [
            ("targets", repr(self.targets)),
            ("block", self.block),
            ("not done", len(getattr(self, "pending", ())) or ""),
        ]
        return client_html(
            type(self).__name__, self._connection.location, end.connected, end.ids, rows
        )

    @property
    def ids(self) -> list[int]:
        """The sorted ids of all registered engines."""
        return sorted(self._connection.end.ids)

    def __len__(self) -> int:
        return len(self.ids)

    def __iter__(self) -> Iterator[int]:
        return iter(self.ids)

    def __contains__(self, engine_id: object) -> bool:
        return not isinstance(engine_id, bool) and engine_id in self.ids

    def __delitem__(self, key: object) -> None:
        raise TypeError(
            f"names cannot be deleted by the client; use execute('del {key}')"
            if isinstance(key, str)
            else "engines cannot be deleted by the client; use kill(targets=...)"
        )

    def __bool__(self) -> bool:
        return True  # also without engines

    def _options(self, targets: Targets, block: bool | None) -> tuple[tuple[int, ...] | None, bool]:
        chosen = self.targets if targets is None else targets
        known = sorted(self._connection.end.ids) if isinstance(chosen, slice) else ()
        return normalize_targets(chosen, known), self._block(block)

    def _names_all(self, targets: Targets) -> bool:
        """Return whether these are all engines, whichever they are."""
        chosen = self.targets if targets is None else targets
        return (isinstance(chosen, str) and chosen == "all") or (
            isinstance(chosen, slice) and chosen == slice(None)
        )

    def _block(self, block: bool | None) -> bool:
        return check_bool("block", self.block if block is None else block)

    def _snapshot(self, block: bool | None) -> bool:
        """Return whether a call must copy what it is given, because it returns before that is sent."""
        return not self._block(block)

    def _streams(self) -> bool:
        """Return whether engines send output while a command runs."""
        return False

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any:
        raise NotImplementedError

    def _ask(
        self,
        name: str,
        block: bool | None,
        finish: Callable[[Any], Any] = lambda value: value,
        **args: Any,
    ) -> Any:
        raise NotImplementedError

    def interrupt(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Interrupt what the engines are running, as Ctrl-C would.

        Queued commands are not affected, and namespaces are kept.

        :returns: within a second, an :class:`InterruptList`, which shows where the interrupt had no effect.
        """
        ids, _ = self._options(targets, block)
        return self._ask("interrupt", block, InterruptList.of, targets=ids)

    def stacks(
        self, targets: Targets = None, timeout: float = 1.0, block: bool | None = None
    ) -> Any:
        """Fetch the current stacks of the engines without disturbing what they run.

        :param timeout: seconds within which an engine's interpreter must answer; more than 0, 1 by default.
        :returns: a :class:`StackList`.
        :raises TypeError, ValueError: if ``timeout`` is not such a number.
        """
        ids, _ = self._options(targets, block)
        within = check_seconds("timeout", timeout, above_zero=True)
        return self._ask("stacks", block, self._stacks, targets=ids, within=within)

    def _stacks(self, rows: list[Any]) -> StackList:
        return StackList.of(rows)

    # -- queues

    def queue_status(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Fetch what each engine is running and has in its queue.

        :returns: a :class:`QueueStatusList` of pairs ``(id, {'pending': ..., 'queue': [...]})``; ``pending`` is the
            running command, or None. That of an engine that is away also has ``away``, for how many seconds.
        """
        ids, _ = self._options(targets, block)

        def finish(rows: list[Any]) -> QueueStatusList:
            return QueueStatusList((engine_id, status) for engine_id, status in rows)

        return self._ask("queue_status", block, finish, targets=ids)

    def clear_queue(self, targets: Targets = None, block: bool | None = None) -> Any:
        """Remove the commands that have not begun from the engines' queues.

        The calls they belong to fail with :class:`~ipython1.kernel.error.QueueCleared`.
        """
        ids, _ = self._options(targets, block)
        return self._ask("clear_queue", block, lambda count: None, targets=ids)

    # -- what was

    def history(
        self, limit: int = 100, before: float | None = None, block: bool | None = None
    ) -> Any:
        """Fetch what the controller remembers of calls that were made without waiting for them, by any client.

        It remembers them for as long as its journal keeps results; see ``[journal]`` in ``ipython1.kernel.ini``.

        :param limit: the number of calls, up to 10,000; default: 100.
        :param before: only calls that were submitted before this time, in seconds since the epoch; default: all.
        :returns: a :class:`~ipython1.kernel.calls.callhistory.CallHistory`, a list of
            :class:`~ipython1.kernel.wire.callhistory.CallEntry`, latest first.
        :raises TypeError, ValueError: if an argument is invalid.
        """
        check_int("limit", limit, 0, MOST_CALLS)
        if before is not None and not is_number(before):
            raise TypeError(f"before must be a time in seconds, not {before!r}")
        return self._ask("history", block, CallHistory.of, limit=int(limit), before=before)

    def result_of(self, call: CallEntry | str, block: bool | None = None) -> Any:
        """Fetch the result of an earlier call, of this client or another one, that its client has not fetched.

        :param call: an entry of :meth:`history`, or its ``id``.
        :returns: what the call returned, as a list with one value for each of its engines: of ``pull`` the dicts of
            names and objects, of ``map`` the lists of results, with exceptions in place of those that failed.
        :raises ResultNotCompleted: if it is not done on all engines.
        :raises ResultAlreadyRetrieved: if its client has the result, which the controller then keeps no longer.
        :raises InvalidDeferredID: if the controller does not know it.
        """
        call_id = call.id if isinstance(call, CallEntry) else call
        if not isinstance(call_id, str):
            raise TypeError(f"call must be an entry of history(), or its id, not {call!r}")
        blocks = self._block(block)

        def fetch(entry: CallEntry) -> Any:
            return self._run(requests.result_of(entry), "all", blocks)

        return self._then(self._ask("call", True, CallEntry.unpack, call=call_id), fetch)

    def _then(self, value: Any, function: Callable[[Any], Any]) -> Any:
        """Return what ``function`` makes of a value that a call returned."""
        return function(value)
