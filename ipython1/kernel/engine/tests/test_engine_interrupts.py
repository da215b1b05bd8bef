"""Interrupts of commands on an engine, from the link to the gate."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.engine.end import EngineEnd
from ipython1.kernel.engine.enginecommands import INTERRUPT_AGAIN
from ipython1.kernel.engine.worker import Command
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import join_inline

ORIGIN = b"o" * 16


class Reactor(Clock):
    def callFromThread(self, function: Any, *args: Any) -> None:
        self.callLater(0, function, *args)


class Gate:
    """An interrupt gate whose main thread begins when the test says so."""

    def __init__(self) -> None:
        self.current: Hashable | None = None
        self.interrupted: list[Hashable] = []

    def request(self, run_id: Hashable) -> bool:
        if run_id is None or run_id != self.current:
            return False
        self.interrupted.append(run_id)
        return True


class Worker:
    running = None

    def __init__(self) -> None:
        self.commands: list[Command] = []

    def put(self, command: Command) -> None:
        self.commands.append(command)


class EngineInterruptTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock, self.gate, self.worker = Reactor(), Gate(), Worker()
        self.end = EngineEnd(self.worker, self.gate, None, self.clock, lambda: None)  # type: ignore[arg-type]

    def send_command(self, number: int) -> tuple[bytes, int]:
        payload = join_inline([messages.pack_json({"source": "a"})])
        meta = messages.CommandMeta(ORIGIN, "execute").pack()
        self.end.frame_received(frames.COMMAND, 0, number, meta, payload)
        return (ORIGIN, number)

    def interrupt(self, origin: bytes = b"", number: int = 0) -> None:
        self.end.frame_received(frames.INTERRUPT, 0, number, origin, b"")

    def test_a_running_command(self) -> None:
        self.gate.current = self.send_command(1)
        self.interrupt()
        self.interrupt(ORIGIN, 1)
        self.assertEqual(self.gate.interrupted, [(ORIGIN, 1)] * 2)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_a_command_that_has_come_and_not_begun(self) -> None:
        """An interrupt right after the submission is not lost."""
        key = self.send_command(1)
        self.interrupt()
        self.assertEqual(self.gate.interrupted, [])
        self.clock.advance(INTERRUPT_AGAIN)
        self.gate.current = key
        self.clock.advance(INTERRUPT_AGAIN)
        self.assertEqual(self.gate.interrupted, [key])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_only_the_command_that_was_meant(self) -> None:
        self.send_command(1)
        self.interrupt(ORIGIN, 1)
        self.end.commands.ended(self.worker.commands[0], Outcome(0, messages.OK))
        self.gate.current = self.send_command(2)
        self.clock.advance(1)
        self.interrupt(ORIGIN, 1)
        self.assertEqual(self.gate.interrupted, [])

    def test_nothing_to_interrupt(self) -> None:
        self.interrupt()
        self.assertEqual(self.clock.getDelayedCalls(), [])
