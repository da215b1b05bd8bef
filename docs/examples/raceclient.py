"""The users' side of the race: a blocking client."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

from ipython1.kernel import requests
from ipython1.kernel.calls.calls import Targets, normalize_targets
from ipython1.kernel.clientlink import EngineOutcome
from ipython1.kernel.connect import connect_blocking
from ipython1.kernel.messages import OK


class _Finish:
    """Receives the outcomes of one race (a ``CallObserver``); lives in the reactor's thread."""

    def __init__(self) -> None:
        self.outcomes: Future[list[EngineOutcome]] = Future()
        self._failures: list[EngineOutcome] = []
        self._engines = 0

    def accepted(self, ids: Sequence[int]) -> None:
        self._engines = len(ids)

    def outcome(self, outcome: EngineOutcome) -> None:
        if self.outcomes.done():
            return
        if outcome.status == OK:
            self.outcomes.set_result([outcome])
            return
        self._failures.append(outcome)
        if len(self._failures) == self._engines:
            self._failures.sort(key=lambda failure: failure.engine_id)
            self.outcomes.set_result(self._failures)

    def output(self, engine_id: int, stream: str, text: str) -> None:
        pass

    def failed(self, problem: Exception) -> None:
        if not self.outcomes.done():
            self.outcomes.set_exception(problem)


class RaceClient:
    """A connection to the race interface of a controller.

    :param furl_or_file: as for ``MultiEngineClient``.
    """

    def __init__(self, furl_or_file: Any = "", timeout: float = 10.0) -> None:
        self._connection = connect_blocking(furl_or_file, "race", timeout)

    def run(
        self,
        function: Callable[..., Any],
        *args: Any,
        targets: Targets = "all",
        timeout: float | None = None,
    ) -> tuple[int, Any]:
        """Call ``function(*args)`` on all ``targets``; the first one that returns wins.

        :returns: the winner's id, and what the function returned there.
        :raises CompositeError: when it failed on every engine.
        :raises TimeoutError: after ``timeout`` seconds.
        """
        request = requests.apply("race", function, args, {})
        finish = _Finish()
        end = self._connection.end
        self._connection.reactor.callFromThread(
            end.submit, request.command, request.buffers, normalize_targets(targets), finish
        )
        outcomes = finish.outcomes.result(timeout)
        (value,) = request.finish(outcomes)
        return outcomes[0].engine_id, value

    def close(self) -> None:
        """End the connection."""
        self._connection.close_blocking()
