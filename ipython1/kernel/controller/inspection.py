"""What engines do right now, as far as the controller can find out: where they are, and what an interrupt did.

Both answers are lists of ``(engine id, dict)`` that can be written as JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred, TimeoutError, gatherResults
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import deferLater

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.controller.queuedengine import QueuedEngine
from ipython1.kernel.host.processstate import ProcessState
from ipython1.kernel.host.stackdump import stack_dump

STACKS_TIMEOUT: Final = 1.0
"""Seconds that an engine has to say where it is; its interpreter may be held by C code for longer."""

_BETWEEN_LOOKS: Final = 0.1

INTERRUPT_WAIT: Final = 1.0
"""Seconds that an interrupted command has to end before it is told to have had no effect."""


async def stacks_of(
    engines: Sequence[QueuedEngine], clock: IReactorTime, within: float = STACKS_TIMEOUT
) -> list[tuple[int, dict[str, Any]]]:
    """Where the main thread of each engine is.

    Each dict has ``state`` (``'idle'``, ``'running'``, ``'silent'``, ``'stopped'``, ``'away'`` or ``'gone'``) and
    ``pending``, the command that the engine has as :meth:`QueuedEngine.queue_status` tells it, or None.  A running
    engine adds ``command`` (client and number), ``seconds`` and ``stack`` (text); one that is away adds ``away``, for
    how many seconds.  One whose interpreter did not answer within ``within`` seconds is silent; if its process is
    known to be one of the controller's own host, it adds ``dump``, its stacks as ``faulthandler`` writes them.  If that
    process is stopped (SIGSTOP), it adds ``pid`` instead.
    """
    return await gatherResults(
        [Deferred.fromCoroutine(_stack_of(engine, clock, within)) for engine in engines]
    )


async def _stack_of(
    engine: QueuedEngine, clock: IReactorTime, within: float
) -> tuple[int, dict[str, Any]]:
    pending = engine.queue_status()["pending"]
    try:
        answer = await engine.report({"stack": True}).addTimeout(within, clock)
    except KernelError:
        if engine.away:
            return engine.id, {"state": "away", "pending": pending, "away": engine.seconds_away}
        return engine.id, {"state": "gone", "pending": pending}
    except TimeoutError:
        row = {"state": "silent", "pending": pending}
        # Not the process that it claims to be: that could be another one, which would get a signal.
        process = engine.process
        if process is not None and process.state is ProcessState.STOPPED:
            row |= {"state": "stopped", "pid": process.pid}
        elif process is not None and process.state.alive:
            row["dump"] = await stack_dump(process.pid, clock)
        return engine.id, row
    busy = answer.get("running") is not None or "task" in answer
    return engine.id, {"state": "running" if busy else "idle", "pending": pending, **answer}


async def interrupt_and_look(
    engines: Sequence[QueuedEngine], clock: IReactorTime, wait: float = INTERRUPT_WAIT
) -> list[tuple[int, dict[str, Any]]]:
    """Interrupt what each engine runs now, a command or a task, and nothing that comes after it.

    Each dict has ``pending``, the command as it is told in a queue, ``'a task'``, or None when nothing ran; and
    ``ended``, whether it ended within ``wait`` seconds.  Of an engine where it did not, there is also all that
    :func:`stacks_of` tells.
    """
    rows: dict[int, dict[str, Any]] = {}
    ends: list[Deferred[None]] = []
    for engine in engines:
        key = engine.running_key
        row = rows[engine.id] = {"pending": engine.queue_status()["pending"], "ended": True}
        if key is None:
            ends.append(Deferred.fromCoroutine(_interrupt_task(engine, clock, wait, row)))
        else:
            engine.interrupt(key)
            ends.append(_ends_within(engine, key, clock, wait, row))
    await gatherResults(ends)
    stuck = [engine for engine in engines if not rows[engine.id]["ended"]]
    for engine_id, row in await stacks_of(stuck, clock, STACKS_TIMEOUT / 2):
        rows[engine_id] = {**row, **rows[engine_id]}
    return list(rows.items())


def _ends_within(
    engine: QueuedEngine,
    key: tuple[bytes, int],
    clock: IReactorTime,
    wait: float,
    row: dict[str, Any],
) -> Deferred[None]:
    def too_late(failure: Any) -> None:
        failure.trap(TimeoutError)
        row["ended"] = False

    return engine.commands.when_over(key).addTimeout(wait, clock).addErrback(too_late)


async def _interrupt_task(
    engine: QueuedEngine, clock: IReactorTime, wait: float, row: dict[str, Any]
) -> None:
    """Interrupt the task that an engine without a command may run, and look whether it ends."""
    task: Any = None
    deadline = clock.seconds() + wait
    try:
        while (left := deadline - clock.seconds()) > 0:
            request = {"interrupt": True} if task is None else {}
            answer = await engine.report(request).addTimeout(left, clock)
            running = answer.get("task")
            if running is None or task not in (None, running):
                return
            task = running
            row["pending"] = "a task"
            await deferLater(clock, min(_BETWEEN_LOOKS, left))
    except KernelError:
        row["ended"] = not engine.away  # one that is gone took the task with it
        return
    except TimeoutError:
        pass
    row["ended"] = False
