"""The commands that a client has sent and that are not done."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.kernel.calls.sentcommands import Arrived, Outcome, SentCommand, SentCommands
from ipython1.kernel.wire.messages import OK, SubmitMeta


class Observer:
    """Is told nothing here."""

    def accepted(self, ids: object) -> None: ...

    def outcome_begins(self, engine_id: int, incoming: object) -> None: ...

    def outcome(self, outcome: object) -> None: ...

    def output(self, engine_id: int, stream: str, text: str) -> None: ...

    def failed(self, problem: Exception) -> None: ...


class SecondControllerTests(unittest.SynchronousTestCase):
    """A command for all engines that was begun under a controller that died before it named them."""

    def setUp(self) -> None:
        self.commands = SentCommands()
        self.command = SentCommand(1, SubmitMeta("execute", None), (), Observer())
        self.commands.add(self.command)

    def arrives(self, engine_id: int) -> SentCommand | None:
        command = self.commands.arrived(1, Outcome(engine_id, OK))
        if command is not None:
            self.commands.finish_if_complete(command)
        return command

    def test_a_dead_engine_that_ended_it_is_one_of_its_engines(self) -> None:
        self.assertIsNotNone(self.arrives(4))
        self.assertIs(self.commands.accepted(1, (0, 1)), self.command)
        self.assertEqual(self.command.ids, (0, 1, 4))
        self.arrives(0)
        self.assertIs(self.commands.get(1), self.command)  # engine 1 is missing
        self.arrives(1)
        self.assertIsNone(self.commands.get(1))

    def test_an_engine_that_was_not_named_does_not_count(self) -> None:
        self.commands.accepted(1, (0, 1))
        self.assertIsNone(self.arrives(4))
        self.arrives(0)
        self.assertIs(self.commands.get(1), self.command)


class OrderTests(unittest.SynchronousTestCase):
    """Engines keep the order in which they were named, whatever is heard first; results are given in this order."""

    def setUp(self) -> None:
        self.commands = SentCommands()
        self.command = SentCommand(1, SubmitMeta("execute", (3, 0, 2)), (), Observer())
        self.commands.add(self.command)

    def test_when_nothing_was_heard(self) -> None:
        self.commands.accepted(1, (0, 2, 3))
        self.assertEqual(self.command.ids, (3, 0, 2))

    def test_when_an_outcome_was_faster(self) -> None:
        self.commands.arrived(1, Outcome(0, OK))
        self.commands.accepted(1, (3, 0, 2))
        self.assertEqual(self.command.ids, (3, 0, 2))

    def test_when_one_has_ended_it_for_an_earlier_controller(self) -> None:
        self.commands.arrived(1, Outcome(3, OK))
        self.commands.accepted(1, (0, 2))
        self.assertEqual(self.command.ids, (3, 0, 2))


class ArrivedTests(unittest.SynchronousTestCase):
    def test_a_broadcast_is_confirmed_at_once_for_all_engines(self) -> None:
        arrived = Arrived()
        for engine_id in range(1000):
            arrived.add(7, engine_id)
        arrived.add(8, 3)
        told = list(arrived.take())
        self.assertEqual(
            [(len(ids), first, count) for ids, first, count in told], [(999, 7, 1), (1, 7, 2)]
        )
        self.assertFalse(arrived)
