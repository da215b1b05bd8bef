"""Large results stay with their engines while the journal has enough to write."""

from __future__ import annotations

from ipython1.kernel.controller import resultgate
from ipython1.kernel.controller.tests.taskdesk import WireClient, WireEngine
from ipython1.kernel.controller.tests.test_task_survival import OK, JournalCase
from ipython1.kernel.wire import frames

SIZE = 300_000


class GateTests(JournalCase):
    """Two results have room at a time."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(resultgate, "MOST", 2 * SIZE)
        self.engines = [self.engine, WireEngine(self.desk), WireEngine(self.desk)]
        self.write()
        self.ids = self.submit(*(b"%d" % number for number in range(9)))

    def end(self) -> None:
        """All tasks end."""
        while any(engine.runs for engine in self.engines):
            for engine in self.engines:
                engine.end(len(engine.runs), data=bytes(SIZE))

    @property
    def unsafe(self) -> int:
        """Bytes that the journal does not have yet."""
        return self.desk.tasks._keeper.unsafe

    def write_on(self) -> None:
        """The journal writes, and tasks that are given to another engine end, as long as something comes."""
        arrived = -1
        while len(self.client.results) > arrived:
            arrived = len(self.client.results)
            # One of each engine may be on its way when there is no more room.
            self.assertLess(self.unsafe, (2 + len(self.engines)) * SIZE)
            self.write()
            self.end()

    def check(self) -> None:
        """Everything has arrived, once, and is safe."""
        self.assertEqual(self.client.results, dict.fromkeys(self.ids, (OK, bytes(SIZE))))
        self.assertEqual(self.client.told, len(self.ids))
        self.assertEqual([engine.kept for engine in self.engines], [{}] * 3)
        self.assertEqual(sorted(self.journal.disk.succeeded), self.ids)

    def test_no_more_are_taken_than_the_journal_keeps_up_with(self) -> None:
        self.end()
        self.assertEqual((self.unsafe, len(self.client.results)), (2 * SIZE, 2))
        self.write_on()
        self.check()

    def test_an_engine_that_stops_in_a_transfer_does_not_stop_the_others(self) -> None:
        assert self.engine.link is not None
        # It announces its results, and sends nothing of them.
        self.patch(self.engine.link.bulk, "begin", lambda number: None)
        self.end()
        self.write_on()
        self.assertEqual(len(self.client.results), len(self.ids) - len(self.engine.ran))
        self.engine.cut()
        self.engine.come_back()
        self.write_on()
        self.check()

    def test_an_engine_that_comes_back_sends_again_what_waited(self) -> None:
        self.end()
        for engine in self.engines:
            engine.cut()
        for engine in self.engines:
            engine.come_back()
        self.write_on()
        self.check()

    def test_what_waits_does_not_hold_up_what_is_small(self) -> None:
        self.end()
        self.engine.send(frames.PROPERTIES, 7)
        other = WireClient(self.desk)
        self.assertEqual(other.ask("queue_status")["scheduled"], len(self.ids) - 2)
        self.assertEqual(self.desk.service.engines[self.engine.id].properties_version, 7)
        self.write_on()
        self.check()
