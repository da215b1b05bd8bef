"""The engine's end of its link: answers, output, ending, and connecting again."""

from __future__ import annotations

import itertools
import json
import tracemalloc
from dataclasses import asdict
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ConnectionError, SecurityError, VersionMismatch
from ipython1.kernel.engine import enginecommands
from ipython1.kernel.engine.connection import EngineConnection
from ipython1.kernel.engine.end import (
    EXIT_DELAY,
    EngineEnd,
)
from ipython1.kernel.engine.liveoutput import STREAM_INTERVAL
from ipython1.kernel.engine.worker import Command
from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.wire import bulk, frames, messages
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.payload import join_inline, split_inline
from ipython1.testing.memory import Pump, connect_in_memory

CLIENT = b"c" * 16


def no_memory(size: int) -> bytearray:
    raise MemoryError(f"not enough memory for {size} bytes on the receiving side")


class Worker:
    """Plays the main thread: takes commands and does nothing."""

    def __init__(self) -> None:
        self.commands: list[Command] = []
        self.running: Command | None = None
        self.running_since = 0.0
        self.stopped = 0
        self.away = False

    @property
    def busy(self) -> bool:
        return self.running is not None

    def put(self, command: Command) -> None:
        self.commands.append(command)

    def take_out(self, key: tuple[bytes, int]) -> Command | None:
        for command in self.commands:
            if command.key == key and command is not self.running:
                self.commands.remove(command)
                return command
        return None

    def set_away(self, away: bool, owner: object = None) -> None:
        self.away = away

    def stop(self) -> None:
        self.stopped += 1

    def request(self, run_id: object) -> bool:
        return True


class Output:
    peeked_in = 0

    def __init__(self) -> None:
        self.new: tuple[str, str] = ("", "")

    def peek(self) -> tuple[str, str]:
        new, self.new = self.new, ("", "")
        return new


class EndCase(SynchronousTestCase):
    def setUp(self):
        self.pump = Pump()
        self.worker, self.output = Worker(), Output()
        self.exits: list[float] = []
        self.end = EngineEnd(
            self.worker,
            self.worker,
            self.output,
            self.pump,
            lambda: self.exits.append(self.pump.seconds()),
        )
        self.controller = Recorder()
        self.link, self.there = connect_in_memory(self.pump, self.end, self.controller)
        self.end.attach(self.link, messages.Welcome(max_message=10**6))

    def command(self, number: int, *buffers: bytes, stream: bool = False) -> None:
        meta = messages.CommandMeta(CLIENT, "push", stream).pack()
        self.there.send(frames.COMMAND, number, meta, join_inline(buffers))
        self.pump.run()

    def sent(self, kind: int) -> list[tuple[int, int, int, bytes, bytes]]:
        self.pump.run()
        return [frame for frame in self.controller.frames if frame[0] == kind]


class CommandsTest(EndCase):
    def test_a_command_comes_to_the_main_thread_as_it_was_sent(self):
        self.command(5, b"head", b"array")
        (command,) = self.worker.commands
        self.assertEqual((command.key, command.method), ((CLIENT, 5), "push"))
        self.assertEqual([bytes(buffer) for buffer in command.buffers], [b"head", b"array"])

    def test_a_command_that_has_not_begun_is_given_back(self):
        self.command(5)
        for number in (4, 5):
            self.there.send(frames.RECALL, number, CLIENT)
        [(_, _, number, meta, _)] = self.sent(frames.OUTCOME)
        self.assertEqual((number, meta[:17]), (5, CLIENT + bytes((messages.REFUSED,))))
        self.assertEqual(messages.unpack_json(meta[17:])[0], "QueueCleared")

    def test_a_command_waits_for_its_large_data(self):
        meta = messages.CommandMeta(CLIENT, "push").pack()
        self.there.send_large(frames.COMMAND, 1, meta, [b"head", bytes(10**6)])
        while not self.link.bulk.active:
            self.assertTrue(self.pump.step())
        self.assertEqual(self.worker.commands, [])
        self.pump.run()
        (command,) = self.worker.commands
        self.assertEqual([len(buffer) for buffer in command.buffers], [4, 10**6])
        self.assertEqual(self.link.bulk.active, 0)

    def test_large_data_can_come_before_its_command_does(self):
        transfer = self.there.bulk.open([b"head", bytes(10**6)])
        self.there.bulk.begin(transfer)
        self.pump.run()
        self.assertEqual(self.worker.commands, [])
        meta = messages.CommandMeta(CLIENT, "push").pack()
        self.there.send_reference(frames.COMMAND, 1, meta, transfer)
        self.pump.run()
        (command,) = self.worker.commands
        self.assertEqual([len(buffer) for buffer in command.buffers], [4, 10**6])
        self.assertEqual(self.link.bulk.active, 0)

    def test_a_command_whose_data_stops_coming_was_never_here(self):
        meta = messages.CommandMeta(CLIENT, "push").pack()
        transfer = self.there.send_large(frames.COMMAND, 1, meta, [bytes(10**7)])
        for _ in range(5):
            self.pump.step()
        self.there.send(frames.BULK_ABORT, transfer, b"its client is gone")
        self.pump.run()
        self.assertEqual(self.worker.commands, [])
        [(_, _, number, meta, _)] = self.sent(frames.OUTCOME)
        self.assertEqual((number, meta[16]), (1, messages.UNRECEIVED))
        self.assertIn("its client is gone", messages.unpack_json(meta[17:])[1])
        self.command(1, b"head")
        self.assertEqual([each.number for each in self.worker.commands], [1])

    def test_a_command_that_there_is_no_memory_for_fails(self):
        self.patch(bulk, "allocate", no_memory)
        meta = messages.CommandMeta(CLIENT, "push").pack()
        self.there.send_large(frames.COMMAND, 1, meta, [bytes(10**6)])
        self.pump.run()
        (command,) = self.worker.commands
        self.assertIn("not enough memory", str(command.problem))
        self.assertEqual(self.link.bulk.active, 0)

    def test_small_and_large_answers(self):
        self.command(1)
        command = self.worker.commands[0]
        for buffers in ((), (b"stream", b"x" * 100), (b"stream", bytes(300_000))):
            self.end.commands.ended(command, Outcome(0, messages.OK, buffers))
        self.pump.run()
        empty, small, large = self.sent(frames.OUTCOME)
        self.assertEqual(empty[2:], (1, CLIENT + b"\x00", b""))
        self.assertEqual([bytes(b) for b in split_inline(small[4])], [b"stream", b"x" * 100])
        self.assertEqual(large[1], frames.BULK)
        taken: list[Any] = []
        self.there.bulk.take(1, lambda parts, reason: taken.append(parts))
        self.pump.run()
        self.assertEqual([len(part) for part in taken[0]], [6, 300_000])

    def test_an_answer_that_is_too_large_is_refused_with_its_size(self):
        self.command(1)
        self.end.commands.ended(
            self.worker.commands[0], Outcome(0, messages.OK, (bytes(2 * 10**6),))
        )
        (outcome,) = self.sent(frames.OUTCOME)
        self.assertEqual(outcome[3][16], messages.REFUSED)
        name, message = messages.unpack_json(outcome[3][17:])
        self.assertEqual(name, "MessageSizeError")
        self.assertIn("2000000 bytes", message)

    def test_status_is_answered_while_user_code_runs(self):
        self.command(1)
        self.worker.running = self.worker.commands[0]
        self.there.send(frames.STATUS, 9, b"", b"{}")
        (reply,) = self.sent(frames.REPLY)
        self.assertEqual(reply[2], 9)
        self.assertEqual(messages.unpack_json(reply[4])["running"], "push")

    def test_user_code_that_breaks_a_request_does_not_break_the_connection(self):
        self.command(1)

        def refuse(run_id: object) -> bool:
            raise RuntimeError("can't start new thread")

        self.worker.request = refuse
        self.there.send(frames.INTERRUPT, 1, CLIENT)
        self.pump.run()
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)
        self.assertFalse(self.link.lost)

    def test_frames_of_unknown_kinds_are_ignored(self):
        self.there.send(99, 1)
        self.there.send(frames.ASK, 1)
        self.pump.run()
        self.assertFalse(self.link.lost)

    def test_kinds_can_be_handled_by_others(self):
        seen: list[Any] = []
        self.end.handlers[77] = lambda *frame: seen.append(frame)
        self.there.send(77, 1, b"m", b"p", 3)
        self.pump.run()
        self.assertEqual(seen, [(3, 1, b"m", b"p")])


class AgainTest(EndCase):
    """Links that break, commands that come twice, outcomes that are sent again."""

    def again(self) -> messages.Holds:
        """Lose the link, and make another; what the engine said when it registered."""
        self.link.abort("it broke")
        self.pump.run()
        holds = self.end.commands.holds()
        self.reattach()
        return holds

    def reattach(self) -> None:
        self.link, self.there = connect_in_memory(self.pump, self.end, self.controller)
        self.end.attach(self.link, messages.Welcome(max_message=10**6), kept=True)

    def outcomes(self) -> list[tuple[int, int]]:
        return [(frame[2], frame[3][16]) for frame in self.sent(frames.OUTCOME)]

    def end_first(self, payload: bytes = b"") -> None:
        self.end.commands.ended(self.worker.commands.pop(0), Outcome(0, messages.OK, (payload,)))
        self.pump.run()

    def test_a_command_that_comes_twice_runs_once(self):
        self.command(1)
        self.command(1)
        self.assertEqual(len(self.worker.commands), 1)
        self.end_first()
        self.command(1)
        self.assertEqual(self.outcomes(), [(1, messages.OK)] * 2)
        self.there.send(frames.CONFIRM, 1, messages.pack_confirm(CLIENT, 1))
        self.command(1)
        self.assertEqual(self.worker.commands, [])
        self.assertEqual(self.outcomes()[2:], [(1, messages.REFUSED)])

    def test_a_large_command_that_comes_twice_is_refused(self):
        self.command(1)
        self.end_first()
        reasons: list[str | None] = []
        meta = messages.CommandMeta(CLIENT, "push").pack()
        self.there.send_large(frames.COMMAND, 1, meta, [bytes(10**7)], reasons.append)
        self.pump.run()
        self.assertEqual(reasons, ["it was received before"])
        self.assertEqual(self.outcomes(), [(1, messages.OK)] * 2)

    def test_what_it_holds_when_it_comes_back(self):
        for number in (1, 2):
            self.command(number)
        self.worker.running = self.worker.commands[0]
        self.end_first()
        holds = self.again()
        self.assertEqual(holds.commands, ((CLIENT.hex(), 2),))
        self.assertEqual(holds.finished, ((CLIENT.hex(), 1),))
        self.assertEqual(messages.Holds.read(json.loads(json.dumps(asdict(holds)))), holds)

    def test_an_outcome_is_sent_again_when_it_is_asked_for(self):
        self.command(1)
        self.end_first(bytes(500_000))
        self.again()
        self.assertEqual(len(self.outcomes()), 1)
        self.there.send(frames.RECLAIM, 1, CLIENT)
        taken: list[Any] = []
        frame = self.sent(frames.OUTCOME)[1]
        self.there.bulk.take(unpack_reference(frame[4]), lambda parts, reason: taken.append(parts))
        self.pump.run()
        self.assertEqual([len(part) for part in taken[0]], [500_000])

    def test_outcomes_that_nobody_fetches_do_not_fill_the_memory(self):
        self.patch(enginecommands, "MOST_HELD", 2**20)
        for number in range(1, 31):
            self.command(number)
        self.link.abort("it broke")
        self.pump.run()
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for number in range(1, 31):
            self.end_first(bytes([number]) * 500_000)
        self.assertLess(tracemalloc.get_traced_memory()[0], 3 * 2**20)
        self.reattach()
        self.controller.frames.clear()
        taken: list[bytes] = []
        for number in range(1, 31):
            self.there.send(frames.RECLAIM, number, CLIENT)
            frame = self.sent(frames.OUTCOME)[-1]
            self.there.bulk.take(
                unpack_reference(frame[4]),
                lambda parts, reason: taken.append(b"".join(parts)),
            )
            self.pump.run()
        self.assertEqual(taken, [bytes([number]) * 500_000 for number in range(1, 31)])
        self.there.send(frames.CONFIRM, 1, messages.pack_confirm(CLIENT, 30))
        self.pump.run()
        self.assertEqual(self.end.commands._memory.size, 0)

    def test_reclaiming_what_is_not_there(self):
        self.command(1)
        for number in (1, 2):
            self.there.send(frames.RECLAIM, number, CLIENT)
        self.assertEqual(self.outcomes(), [(2, messages.REFUSED)])

    def test_what_ends_while_it_registers_is_told(self):
        self.command(1)
        self.link.abort("it broke")
        self.pump.run()
        self.assertEqual(len(self.end.commands.holds().commands), 1)
        self.end_first()
        self.assertEqual(self.outcomes(), [])
        self.reattach()
        self.assertEqual(self.outcomes(), [(1, messages.OK)])

    def test_what_ended_while_it_was_away_waits_to_be_asked_for(self):
        self.command(1)
        self.link.abort("it broke")
        self.end_first()
        self.assertEqual(len(self.end.commands.holds().finished), 1)
        self.reattach()
        self.assertEqual(self.outcomes(), [])

    def test_data_that_a_broken_link_did_not_bring_was_never_here(self):
        meta = messages.CommandMeta(CLIENT, "push").pack()
        self.there.send_large(frames.COMMAND, 1, meta, [bytes(10**7)])
        for _ in range(5):
            self.pump.step()
        self.assertEqual(self.again(), messages.Holds())
        self.assertEqual((self.worker.commands, self.outcomes()), ([], []))
        self.command(1)
        self.assertEqual(len(self.worker.commands), 1)

    def test_it_begins_nothing_while_it_is_away(self):
        self.link.abort("it broke")
        self.pump.run()
        self.assertTrue(self.worker.away)
        self.reattach()
        self.assertFalse(self.worker.away)

    def test_one_that_was_given_up_stops_what_it_holds(self):
        asked: list[object] = []
        self.worker.request = lambda run_id: bool(asked.append(run_id)) or True
        for number in (1, 2, 3):
            self.command(number)
        self.end_first()
        self.worker.running = self.worker.commands[0]
        self.again()
        self.end.commands.forget()
        self.assertEqual(asked, [(CLIENT, 2)])
        self.assertEqual([each.number for each in self.worker.commands], [2])
        self.end_first()
        self.assertEqual(self.outcomes(), [(1, messages.OK), (2, messages.OK)])
        self.command(3)
        self.assertEqual(self.worker.commands, [])


class OutputTest(EndCase):
    def tick(self) -> None:
        self.pump.advance(STREAM_INTERVAL)
        self.pump.run()

    def test_output_is_sent_while_the_command_runs_and_not_after(self):
        self.command(1, stream=True)
        command = self.worker.commands[0]
        self.output.new = ("before it began", "")
        self.tick()
        self.assertEqual(self.sent(frames.OUTPUT), [])
        self.worker.running = command
        self.output.new = ("out é", "err")
        self.tick()
        texts = [(frame[2], frame[3][16:], frame[4].decode()) for frame in self.sent(frames.OUTPUT)]
        self.assertEqual(texts, [(1, b"stdout", "out é"), (1, b"stderr", "err")])
        self.tick()
        self.assertEqual(len(self.sent(frames.OUTPUT)), 2)
        self.worker.running = None
        self.end.commands.ended(command, Outcome(0, messages.OK))
        self.output.new = ("late", "")
        self.tick()
        self.assertEqual(len(self.sent(frames.OUTPUT)), 2)
        self.assertEqual(self.pump.getDelayedCalls(), [])

    def test_without_being_asked_nothing_is_sent(self):
        self.command(1)
        self.worker.running = self.worker.commands[0]
        self.output.new = ("out", "err")
        self.tick()
        self.assertEqual(self.sent(frames.OUTPUT), [])

    def test_output_that_cannot_be_read_is_tried_again(self):
        def refuse() -> tuple[str, str]:
            raise RuntimeError("a stream of the user's")

        self.command(1, stream=True)
        self.worker.running = self.worker.commands[0]
        self.patch(self.output, "peek", refuse)
        self.tick()
        del self.output.peek
        self.output.new = ("later", "")
        self.tick()
        self.assertEqual([frame[4] for frame in self.sent(frames.OUTPUT)], [b"later"])
        self.assertEqual(len(self.flushLoggedErrors(RuntimeError)), 1)

    def test_a_flood_fits_into_frames(self):
        self.command(1, stream=True)
        self.worker.running = self.worker.commands[0]
        self.output.new = ("😀" * 500_000, "")
        self.tick()
        for frame in self.sent(frames.OUTPUT):
            self.assertLessEqual(len(frame[4]), frames.MAX_PAYLOAD)
            frame[4].decode()
        self.assertFalse(self.link.lost)


class EndingTest(EndCase):
    def stop(self) -> None:
        self.there.send(frames.STOP, 0)
        self.pump.run()

    def test_an_idle_engine_ends_in_good_order(self):
        self.stop()
        self.assertEqual(self.worker.stopped, 1)
        self.pump.advance(10)
        self.assertEqual(self.exits, [])

    def test_a_busy_engine_is_ended_without_waiting_for_user_code(self):
        self.command(1)
        self.worker.running = self.worker.commands[0]
        self.stop()
        self.assertEqual(self.exits, [])
        self.pump.advance(EXIT_DELAY)
        self.assertEqual(self.exits, [EXIT_DELAY])

    def test_a_command_that_begins_at_that_very_moment_does_not_keep_it(self):
        self.stop()
        self.command(1)
        self.worker.running = self.worker.commands[0]
        self.pump.advance(EXIT_DELAY)
        self.assertEqual(len(self.exits), 1)


class ConnectionTest(EndCase):
    """Connecting again, on a clock of the test's own."""

    def setUp(self):
        super().setUp()
        self.attempts: list[float] = []
        self.answers: list[Any] = []
        self.links: list[FrameLink] = []
        self.registered: list[messages.Welcome] = []
        self.connection = EngineConnection(self.open_link, self.end, self.pump, give_up_after=10.0)

    async def open_link(self) -> messages.Welcome:
        self.attempts.append(self.pump.seconds())
        answer = self.answers.pop(0) if self.answers else messages.Welcome(engine_id=0)
        if isinstance(answer, Exception):
            raise answer
        link, _ = connect_in_memory(self.pump, self.end, Recorder())
        self.links.append(link)
        self.end.attach(link, answer)
        return answer

    def run_connection(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.connection.run(self.registered.append))

    def advance(self, seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            self.pump.advance(0.05)

    def test_the_first_attempt_must_succeed(self):
        self.answers = [SecurityError("no such FURL")]
        self.failureResultOf(self.run_connection(), SecurityError)
        self.assertEqual(len(self.attempts), 1)

    def test_it_connects_again_after_each_loss_and_soon_at_first(self):
        running = self.run_connection()
        for number in range(1, 4):
            self.assertEqual(len(self.registered), number)
            self.links[-1].abort("the controller was stopped")
            self.advance(0.1)
        self.assertEqual(len(self.registered), 4)
        self.assertNoResult(running)
        self.end.stopping = True
        self.links[-1].abort("it is to end")
        self.successResultOf(running)

    def test_it_waits_longer_each_time_and_gives_up_in_the_end(self):
        running = self.run_connection()
        self.answers = [ConnectionError("nobody listens")] * 100
        begun = self.pump.seconds()
        self.links[0].abort("the controller was killed")
        self.advance(30)
        error = self.failureResultOf(running, ConnectionError).value
        self.assertIn("could not be reached for 10 s (nobody listens)", str(error))
        waits = [
            b - a for a, b in zip([begun, *self.attempts[1:]], self.attempts[1:], strict=False)
        ]
        self.assertLess(waits[0], 0.06)
        for sooner, later in itertools.pairwise(waits[1:]):
            self.assertLess(sooner, later + 0.06)
        self.assertLessEqual(self.attempts[-1] - begun, 25.0)
        self.assertGreater(self.attempts[-1] - begun, 5.0)
        self.assertEqual(self.pump.getDelayedCalls(), [])

    def test_it_finds_a_controller_that_comes_back_late(self):
        running = self.run_connection()
        self.answers = [ConnectionError("nobody listens")] * 5
        self.links[0].abort("the controller was killed")
        self.advance(9)
        self.assertEqual(len(self.registered), 2)
        self.assertNoResult(running)
        # The patience begins anew with the next loss.
        self.answers = [VersionMismatch("another version")] * 4
        self.links[-1].abort("killed again")
        self.advance(8)
        self.assertEqual(len(self.registered), 3)

    def test_a_connection_that_is_lost_while_it_is_made_counts_as_lost(self):
        async def lost_at_once() -> messages.Welcome:
            self.attempts.append(self.pump.seconds())
            link, _ = connect_in_memory(self.pump, self.end, Recorder())
            if len(self.attempts) == 2:
                link.connection_lost("in between")
            self.end.attach(link, messages.Welcome())
            self.links.append(link)
            return messages.Welcome(engine_id=0)

        self.connection = EngineConnection(lost_at_once, self.end, self.pump, 10.0)
        running = self.run_connection()
        self.links[0].abort("lost")
        self.advance(1)
        self.assertEqual(len(self.attempts), 3)
        self.assertFalse(self.links[-1].lost)
        self.assertNoResult(running)

    def test_what_is_asked_to_end_while_it_is_connected_does_not_connect_again(self):
        running = self.run_connection()
        self.end.frame_received(frames.STOP, 0, 0, b"", b"")
        self.links[0].abort("the controller saw it end")
        self.successResultOf(running)
        self.advance(5)
        self.assertEqual(len(self.attempts), 1)
