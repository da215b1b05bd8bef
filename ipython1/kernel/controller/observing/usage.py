"""Processor time and memory of an engine's process.

The operating system is asked where the controller knows for certain which process of its host that is (see
:mod:`~ipython1.kernel.host.peerprocess`); so it knows of an engine that cannot answer, too.  Other engines are asked
themselves.  One that does not answer for :data:`STALE` seconds has no values: old ones would be wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.python.failure import Failure

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.host.processstate import ProcessName
from ipython1.kernel.host.processusage import ProcessUsage, usage_of

STALE: Final = 10.0
"""Seconds after the last answer of an engine, beside the usual interval, that its values count."""

_MOST: Final = 1e12
_LEAST_CPU: Final = 1.0
_LEAST_MEMORY: Final = 0.01


class Asked(Protocol):
    """An engine, as this needs it."""

    process: ProcessName | None

    @property
    def away(self) -> bool: ...

    def report(self, request: dict[str, Any]) -> Any: ...


class Usage:
    """What one engine uses.

    :param changed: called when the values have changed by an amount that matters.
    :param read: asks the operating system.
    :ivar cpu: percent of one processor; None if that is not known.
    :ivar memory: bytes; None if that is not known.
    """

    __slots__ = (
        "_asking",
        "_changed",
        "_cpu",
        "_engine",
        "_last",
        "_memory",
        "_read",
        "_told",
        "_when",
    )

    def __init__(
        self,
        engine: Asked,
        changed: Callable[[], None],
        read: Callable[[ProcessName], ProcessUsage | None] = usage_of,
    ) -> None:
        self._engine = engine
        self._changed = changed
        self._read = read
        self._last: tuple[float, float] | None = None
        self._cpu: float | None = None
        self._memory: int | None = None
        self._told: tuple[float | None, int | None] = (None, None)
        self._when = 0.0
        self._asking = False

    @property
    def cpu(self) -> float | None:
        return self._cpu

    @property
    def memory(self) -> int | None:
        return self._memory

    def begin(self) -> None:
        """Somebody looks again; what was before says nothing."""
        self._last = self._cpu = None

    def look(self, now: float, interval: float) -> None:
        """Find out what there is to know.

        :param interval: seconds between such looks.
        """
        engine = self._engine
        if engine.process is not None:
            found = self._read(engine.process)
            if found is not None:
                self._found(now, now, found)
                return
        if now - self._when > interval + STALE:
            self._cpu = self._memory = self._last = None
            self._tell()
        if engine.away or self._asking:
            return
        self._asking = True
        engine.report({"usage": True}).addCallbacks(
            lambda answer: self._answered(now, answer), self._failed
        )

    def _answered(self, now: float, answer: Any) -> None:
        self._asking = False
        try:
            clock, cpu, memory = answer["usage"]
            found = ProcessUsage(float(cpu), None if memory is None else int(memory))
            clock = float(clock)
        except (KeyError, OverflowError, TypeError, ValueError):
            return
        if 0 <= found.cpu <= _MOST and 0 <= clock <= _MOST and 0 <= (found.memory or 0) < 2**62:
            self._found(now, clock, found)

    def _failed(self, failure: Failure) -> None:
        self._asking = False
        failure.trap(KernelError)

    def _found(self, now: float, clock: float, found: ProcessUsage) -> None:
        """The process uses this, at a time of the clock by which its processor time was read."""
        last, self._last = self._last, (clock, found.cpu)
        self._when = now
        self._memory = found.memory
        if last is not None and clock > last[0]:
            self._cpu = round(max(0.0, (found.cpu - last[1]) / (clock - last[0])) * 100, 1)
        self._tell()

    def _tell(self) -> None:
        old_cpu, old_memory = self._told
        cpu, memory = self._cpu, self._memory
        if (
            (old_cpu is None) != (cpu is None)
            or (old_memory is None) != (memory is None)
            or abs((cpu or 0.0) - (old_cpu or 0.0)) >= _LEAST_CPU
            or abs((memory or 0) - (old_memory or 0)) > (old_memory or 0) * _LEAST_MEMORY
        ):
            self._told = (cpu, memory)
            self._changed()
