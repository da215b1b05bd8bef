"""Debugging user code on an engine from a prompt here.

The engine asks nothing by itself: each line that is typed is a question to it, whose answer is what the debugger shows
until its next prompt.  :mod:`ipython1.kernel.engine.debugging` has the questions.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from typing import Any, Final, Protocol

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics.error import ClientError, CompositeError, WaitInterrupted
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.calls.twistedutil import blocking_ask
from ipython1.kernel.host.hosts import user_label

STAY_EVERY: Final = 5.0
"""Seconds between signs of life of somebody at a prompt."""

_BEGIN_LIMIT: Final = 10.0
"""Seconds that an engine has to begin to look at its last exception."""

_REACH_LIMIT: Final = 1.0
"""Seconds in which a command that has just begun may reach its breakpoint."""

_BETWEEN_LOOKS: Final = 0.05


class Asked(Protocol):
    """The client's end of a connection."""

    origin: bytes

    def ask(self, name: str, **args: Any) -> Any: ...

    def read_until(self, over: Callable[[], bool]) -> None: ...


def debug(
    end: Asked,
    ids: Sequence[int] | None,
    post_mortem: Callable[..., PendingResult],
    name: str = "mec",
    read_line: Callable[[str], str] = input,
) -> None:
    """Debug what waits for that, or the last exception, until it is over or the person leaves.

    :param ids: the engines among which there is one to debug; None for all.
    :param post_mortem: sends the command that looks at an engine's last exception.
    :param name: what the person calls the client.
    :param read_line: shows a prompt and returns what is typed.
    :raises ClientError: if there is nothing to debug.
    """
    engine_id, waits = _choose(end, ids, name)
    session = DebugSession(end, engine_id, name)
    if waits:
        session.run(session.sit(), read_line)
        return
    command = post_mortem((engine_id,), False)
    try:
        session.run(_first_prompt(session, command), read_line)
    finally:
        session.leave()
    try:
        command.result()
    except CompositeError as error:
        # Somebody else has interrupted it, and the debugger has said so.
        if not all(isinstance(each, KeyboardInterrupt) for each in error.exceptions):
            raise


def _choose(end: Asked, ids: Sequence[int] | None, name: str) -> tuple[int, bool]:
    """Return the engine to debug, and whether it waits for that."""
    found = dict(_ask_engines(end, ids, {"do": "look"}))
    if len(found) == 1:
        [engine_id] = found
        found[engine_id] = _until_it_waits(end, engine_id)
    silent = [engine_id for engine_id, told in found.items() if told is None]
    told = {engine_id: each for engine_id, each in found.items() if each is not None}
    waiting = [engine_id for engine_id, each in told.items() if each["where"]]
    if len(waiting) == 1:
        return waiting[0], True
    if waiting:
        raise ClientError(
            f"engines {compress_ids(waiting)} wait for a debugger; name one of them: {name}.debug(targets={waiting[0]})"
        )
    failed = [engine_id for engine_id, each in told.items() if each["error"]]
    if len(failed) == 1 or len(found) == 1 == len(told):
        [engine_id] = failed or told
        if not failed:
            raise ClientError(
                f"there is nothing to debug on engine {engine_id}: no command has raised an exception there, and "
                "nothing waits at a breakpoint()"
            )
        _check_idle(end, engine_id, name)
        return engine_id, False
    if failed:
        raise ClientError(
            f"commands have raised exceptions on engines {compress_ids(failed)}; name the engine to debug: "
            f"{name}.debug(targets={failed[0]})"
        )
    if silent:
        raise ClientError(f"engine {compress_ids(silent)} is out of reach, and cannot be debugged")
    raise ClientError(
        f"there is nothing to debug on engines {compress_ids(found)}: no command has raised an exception there, and "
        "nothing waits at a breakpoint()"
    )


def _until_it_waits(end: Asked, engine_id: int) -> dict[str, Any] | None:
    """Return how an engine is when it waits for a debugger, or is idle, or has run something for a moment."""
    limit = time.monotonic() + _REACH_LIMIT
    while True:
        [(_, told)] = _ask_engines(end, (engine_id,), {"do": "look"})
        if told is None or told["where"] or _running(end, engine_id) is None:
            break
        if time.monotonic() > limit:
            break
        time.sleep(_BETWEEN_LOOKS)
    state: dict[str, Any] | None = told
    return state


def _running(end: Asked, engine_id: int) -> str | None:
    [(_, status)] = blocking_ask(end, "queue_status", targets=[engine_id])
    pending: str | None = status["pending"]
    return pending


def _check_idle(end: Asked, engine_id: int, name: str) -> None:
    command = _running(end, engine_id)
    if command is not None:
        raise ClientError(
            f"engine {engine_id} is not at a breakpoint() but runs {command}; wait for it, or end it with "
            f"{name}.interrupt(targets={engine_id}), and then look at its exception"
        )


def _ask_engines(
    end: Asked, ids: Sequence[int] | None, request: dict[str, Any]
) -> list[tuple[int, Any]]:
    targets = None if ids is None else list(ids)
    return [
        (engine_id, answer)
        for engine_id, answer in blocking_ask(
            end, "report", targets=targets, request={"debug": request}
        )
    ]


def _first_prompt(session: DebugSession, command: PendingResult) -> dict[str, Any]:
    """Sit down when the command has begun."""
    limit = time.monotonic() + _BEGIN_LIMIT
    while True:
        prompt = session.sit()
        if not prompt["over"] or command.done():
            return prompt
        if time.monotonic() > limit:
            command.abort()
            raise ClientError(
                f"engine {session.engine_id} did not begin to look at its exception within {_BEGIN_LIMIT:g} s"
            )
        time.sleep(_BETWEEN_LOOKS)


class DebugSession:
    """A person at the prompt of an engine's debugger."""

    def __init__(self, end: Asked, engine_id: int, name: str) -> None:
        self.engine_id = engine_id
        self._name = name
        self._end = end
        self._left = False

    def sit(self) -> dict[str, Any]:
        """Sit down at the engine's debugger.

        :returns: its prompt.
        :raises ClientError: if somebody else sits there.
        """
        return self._prompt("sit", label=user_label())

    def leave(self) -> None:
        """Leave it, if that has not happened; what waits at a breakpoint goes on waiting."""
        if not self._left:
            self._left = True
            self._ask("leave")

    def run(self, prompt: dict[str, Any], read_line: Callable[[str], str]) -> None:
        """Show prompts and send lines until there is no prompt any more, or the person leaves."""
        with self._signs_of_life():
            while True:
                text, question = _split(prompt["text"])
                if prompt["over"]:
                    _show(prompt["text"])
                    self._left = True
                    return
                _show(text)
                try:
                    line = read_line(question)
                except EOFError:
                    line = "quit"
                except KeyboardInterrupt:
                    self._leave_by_key()
                    return
                answer = self._answer_to(line, prompt["count"])
                if answer is None:
                    return
                prompt = answer

    def _leave_by_key(self) -> None:
        self.leave()
        [(_, told)] = _ask_engines(self._end, (self.engine_id,), {"do": "look"})
        where = "" if told is None else told["where"]
        if where.startswith("a breakpoint"):
            _show(
                f"\nengine {self.engine_id} still waits at {where}\n"
                f"Go on with {self._name}.debug(targets={self.engine_id}), "
                f"or end its command with {self._name}.interrupt(targets={self.engine_id}).\n"
            )
        else:
            _show("\n")

    def _answer_to(self, line: str, count: int) -> dict[str, Any] | None:
        """Return the next prompt; None if the person did not wait for it."""
        try:
            return self._next_prompt(line, count)
        except WaitInterrupted:
            pass
        try:
            blocking_ask(self._end, "interrupt", targets=[self.engine_id])
            # The question can be asked again, and has its effect once.
            return self._next_prompt(line, count)
        except WaitInterrupted:
            self.leave()
        _show(
            f"\nengine {self.engine_id} has been told to interrupt its command, and has not done so yet.\n"
            f"See what it does with {self._name}.stacks(targets={self.engine_id}); go on with "
            f"{self._name}.debug(targets={self.engine_id}) if it stops at a breakpoint again.\n"
        )
        return None

    def _next_prompt(self, line: str, count: int) -> dict[str, Any]:
        return self._prompt("line", line=line, count=count, label=user_label())

    def _prompt(self, do: str, **more: Any) -> dict[str, Any]:
        answer = self._ask(do, **more)
        if answer is None:
            raise ClientError(
                f"engine {self.engine_id} does not answer: it has died, or its connection is lost and its debugger "
                "waits there"
            )
        if "refused" in answer:
            raise ClientError(f"engine {self.engine_id} cannot be debugged: {answer['refused']}")
        prompt: dict[str, Any] = answer
        return prompt

    def _ask(self, do: str, **more: Any) -> Any:
        request = {"do": do, "client": self._end.origin.hex(), **more}
        [(_, answer)] = _ask_engines(self._end, (self.engine_id,), request)
        return answer

    @contextmanager
    def _signs_of_life(self) -> Any:
        over = threading.Event()

        def stay() -> None:
            while not over.wait(STAY_EVERY):
                try:
                    self._ask("stay")
                except Exception:
                    return  # whoever types the next line is told

        thread = threading.Thread(target=stay, name="ipython1-debug", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()


def _split(text: str) -> tuple[str, str]:
    """Return what is shown above a prompt, and the prompt."""
    above, end, prompt = text.rpartition("\n")
    return above + end, prompt


def _show(text: str) -> None:
    if text:
        sys.stdout.write(text)
        sys.stdout.flush()
