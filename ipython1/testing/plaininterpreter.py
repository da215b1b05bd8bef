"""An interpreter of plain Python, for the engines of in-memory clusters."""

from __future__ import annotations

import contextlib
import io
import time
import types
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ipython1.core.failures import record_exception
from ipython1.core.results import CallOutcome, CommandResult


class PlainInterpreter:
    """The part of ``ipython1.core.interpreter.Interpreter`` that runs plain Python, with its own namespace."""

    def __init__(self) -> None:
        self.user_ns: dict[str, Any] = {"__name__": "__main__"}
        self.hidden_names: dict[str, Any] = {}
        self._results: list[CommandResult] = []

    def execute(self, source: str) -> CommandResult:
        outcome = self.call(self.run_source, (source,))
        result = CommandResult(
            len(self._results) + 1,
            source,
            source,
            outcome.stdout,
            outcome.stderr,
            None,
            (),
            outcome.started,
            outcome.completed,
            outcome.duration,
            outcome.failure,
        )
        self._results.append(result)
        return result

    @property
    def number(self) -> int:
        """The number of the next command."""
        return len(self._results) + 1

    def sources_since(self, number: int) -> list[tuple[int, str]]:
        return [(each.number, each.translated) for each in self._results[number:]]

    def run_source(self, source: str) -> None:
        __tracebackhide__ = True
        exec(compile(source, "<command>", "exec"), self.user_ns)

    def call(
        self,
        function: Callable[..., Any],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        remember: bool = False,
    ) -> CallOutcome:
        __tracebackhide__ = True
        started = time.time()
        out, err = io.StringIO(), io.StringIO()
        value, failure = None, None
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                value = function(*args, **(kwargs or {}))
            except BaseException as problem:
                failure = record_exception(problem)
        now = time.time()
        said = (out.getvalue(), err.getvalue())
        return CallOutcome(value, *said, (), started, now, now - started, failure)

    def push(self, namespace: Mapping[str, object]) -> None:
        self.user_ns.update(namespace)

    def pull(self, keys: str | Sequence[str]) -> Any:
        if isinstance(keys, str):
            if keys not in self.user_ns:
                raise NameError(f"name {keys!r} is not defined")
            return self.user_ns[keys]
        return [self.pull(key) for key in keys]

    def push_function(self, namespace: Mapping[str, Any]) -> None:
        self.push(namespace)

    def pull_function(self, keys: str | Sequence[str]) -> Any:
        value = self.pull(keys)
        for function in [value] if isinstance(keys, str) else value:
            if not isinstance(function, (types.FunctionType, types.BuiltinFunctionType)):
                raise TypeError(f"{keys!r} is not a function")
        return value

    def get_result(self, i: int | None = None) -> CommandResult:
        if not self._results or (i is not None and not 1 <= i <= len(self._results)):
            raise IndexError(f"command {i} has no result")
        return self._results[-1 if i is None else i - 1]

    def keys(self) -> list[str]:
        return sorted(name for name in self.user_ns if not name.startswith("_"))

    def reset(self) -> None:
        self.user_ns.clear()
        self.user_ns["__name__"] = "__main__"
