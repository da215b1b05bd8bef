"""Engines in the controller: the queue of commands, answers of every kind, killing, and loss."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyClass, verifyObject

from ipython1.kernel.basics.engineinterfaces import IEngineBase
from ipython1.kernel.basics.error import EngineDied, ProtocolError, QueueCleared
from ipython1.kernel.controller.command import Command, Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.confirmations import CONFIRM_AFTER
from ipython1.kernel.controller.queuedengine import IEngineQueued, QueuedEngine
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.host.peerprocess import Ends, NoProcesses
from ipython1.kernel.host.processstate import ProcessName
from ipython1.kernel.tests.wiresupport import Recorder, quick
from ipython1.kernel.wire import frames, messages
from ipython1.kernel.wire.bulk import pack_reference
from ipython1.kernel.wire.named import pack_named, unpack_named
from ipython1.kernel.wire.payload import Serialized, join_inline, split_inline
from ipython1.testing.memory import Pump, connect_in_memory

HELLO = messages.Hello(uuid="0e" * 16, pid=4321, host="somewhere", role=messages.ENGINE)
CLIENT = b"c" * 16


def command(
    number: int, method: str = "execute", payload: bytes | None = None, **changes: Any
) -> Command:
    if payload is None:
        payload = join_inline([messages.pack_json({"source": f"x{number} = 1"})])
    return Command(CLIENT, number, method, CommandData(len(payload), payload), **changes)


class Processes(NoProcesses):
    """Confirms what the test says, and records what is ended."""

    def __init__(self) -> None:
        self.known: dict[int, ProcessName] = {HELLO.pid: ProcessName(HELLO.pid, 1.0)}
        self.ended: list[int] = []

    def find(self, host: str, pid: int, ends: Ends | None) -> ProcessName | None:
        return self.known.get(pid)

    def end(self, process: ProcessName, ends: Ends | None) -> bool:
        self.ended.append(process.pid)
        return True


class EngineCase(SynchronousTestCase):
    """A controller's engine, whose process is played by the test."""

    def setUp(self):
        self.pump = Pump()
        self.lost: list[tuple[int, str]] = []
        self.processes = Processes()
        self.signalled = self.processes.ended
        self.engine = QueuedEngine(3, HELLO, self.pump, self.processes)
        self.process = Recorder()
        self.link, there = connect_in_memory(self.pump, self.process, self)
        self.engine.attach(there, messages.Holds())
        self.engine.on_killed = lambda: there.abort("it was killed")
        self.outcomes: dict[int, Outcome] = {}

    def frame_received(self, *frame: Any) -> None:
        self.engine.frame_received(*frame)

    def link_lost(self, reason: str) -> None:
        """The registry does not wait for it."""
        if self.engine.alive:
            self.engine.end(reason)
            self.lost.append((self.engine.id, reason))
            self.engine.fail_all()

    def submit(self, *commands: Command) -> None:
        for each in commands:

            def ended(outcome: Outcome, number: int = each.number) -> None:
                self.assertNotIn(number, self.outcomes)
                self.outcomes[number] = outcome

            self.engine.submit(each).addCallback(ended)
        self.pump.run()

    def received(self) -> list[int]:
        """The numbers of the commands that the process got."""
        return [frame[2] for frame in self.process.frames if frame[0] == frames.COMMAND]

    def answer(
        self, number: int, status: int = messages.OK, payload: bytes = b"", **options: Any
    ) -> None:
        meta = options.pop("origin", CLIENT) + bytes((status,)) + options.pop("error", b"")
        self.link.send(frames.OUTCOME, number, meta, payload, **options)
        self.pump.run()


class CommandTest(SynchronousTestCase):
    def test_all_engines_of_a_call_get_the_same_frame(self):
        data = CommandData(3, b"abc")
        first, second = (Command(CLIENT, 7, "execute", data) for _ in range(2))
        self.assertIs(first.frame(), second.frame())
        seen: list[tuple[Any, ...]] = []
        frames.dispatch(first.frame(), lambda *frame: seen.append(frame))
        meta = messages.CommandMeta(CLIENT, "execute").pack()
        self.assertEqual(seen, [(frames.COMMAND, 0, 7, meta, b"abc")])

    def test_what_fails_after_an_outcome_is_logged_and_stays_there(self):
        ended = command(1)
        ended.on_outcome = lambda outcome: 1 / 0
        ended.end(Outcome(3, messages.OK))
        self.assertTrue(ended.ended)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class QueueTest(EngineCase):
    def test_a_confirmation_goes_along_with_the_next_command_or_goes_soon(self):
        self.submit(command(1))
        self.answer(1)
        self.submit(command(2))
        kinds = [each[0] for each in self.process.frames]
        self.assertEqual(kinds, [frames.COMMAND, frames.CONFIRM, frames.COMMAND])
        self.answer(2)
        for _ in range(2):
            self.pump.advance(CONFIRM_AFTER / 2)
        self.pump.run()
        kind, _, number, meta, _ = self.process.frames[-1]
        self.assertEqual((kind, number), (frames.CONFIRM, 2))
        self.assertEqual(messages.unpack_confirm(meta), (CLIENT, 1))

    def test_one_command_at_a_time_in_order(self):
        self.submit(command(1), command(2), command(3))
        self.assertEqual(self.received(), [1])
        one, two = join_inline([b"one"]), join_inline([b"two"])
        self.answer(1, payload=one)
        self.assertEqual(self.received(), [1, 2])
        self.answer(2, messages.FAILED, two)
        self.answer(3)
        self.assertEqual(self.received(), [1, 2, 3])
        self.assertEqual(
            {number: (o.status, bytes(o.payload)) for number, o in self.outcomes.items()},
            {1: (messages.OK, one), 2: (messages.FAILED, two), 3: (messages.OK, b"")},
        )
        self.assertEqual({o.engine_id for o in self.outcomes.values()}, {3})

    def test_the_engine_gets_what_the_client_sent(self):
        self.submit(command(7, stream=lambda name, text: None))
        kind, flags, ident, meta, payload = self.process.frames[0]
        self.assertEqual((kind, flags, ident), (frames.COMMAND, 0, 7))
        self.assertEqual(
            messages.CommandMeta.unpack(meta), messages.CommandMeta(CLIENT, "execute", True)
        )
        self.assertEqual(split_inline(payload), [b'{"source":"x7 = 1"}'])

    def test_answers_that_nobody_waits_for_change_nothing(self):
        self.submit(command(1), command(2))
        self.answer(2)
        self.answer(1, origin=b"x" * 16)
        self.assertEqual(self.outcomes, {})
        self.answer(1)
        self.answer(1)
        self.assertEqual(list(self.outcomes), [1])
        self.assertEqual(self.received(), [1, 2])

    def test_a_large_answer_that_nobody_waits_for_is_refused(self):
        ended = []
        meta = CLIENT + bytes((messages.OK,))
        self.link.send_large(frames.OUTCOME, 9, meta, [bytes(10**7)], ended.append)
        self.pump.run()
        self.assertEqual(ended, ["nobody waits for it"])
        self.assertEqual(self.engine.link.bulk.active, 0)

    def test_errors_of_the_kernel_itself(self):
        self.submit(command(1))
        self.answer(
            1, messages.REFUSED, error=messages.pack_json(["ProtocolError", "no such method"])
        )
        self.assertEqual(self.outcomes[1].error, ("ProtocolError", "no such method"))

    def test_clearing_leaves_what_runs(self):
        self.submit(command(1), command(2), command(3))
        self.assertEqual(self.engine.clear_queue(), 2)
        self.assertEqual(self.engine.clear_queue(), 0)
        self.assertEqual(sorted(self.outcomes), [2, 3])
        self.assertEqual(self.outcomes[2].error[0], QueueCleared.__name__)
        self.answer(1)
        self.assertEqual(self.received(), [1])

    def test_removing_one(self):
        self.submit(command(1), command(2), command(3))
        removed = self.engine.commands.remove_one((CLIENT, 2), "it was aborted")
        self.assertEqual((removed, list(self.outcomes)), (1, [2]))
        self.assertIn("it was aborted", self.outcomes[2].error[1])
        self.answer(1)
        self.assertEqual(self.received(), [1, 3])
        self.assertTrue(self.engine.is_running((CLIENT, 3)))
        self.assertFalse(self.engine.is_running((CLIENT, 1)))

    def test_taking_back_what_has_not_begun(self):
        self.submit(command(1), command(2))
        self.assertEqual(self.engine.commands.take_back((CLIENT, 2)), 1)
        self.assertEqual(list(self.outcomes), [2])
        # Only the engine knows whether the first has begun.
        self.assertEqual(self.engine.commands.take_back((CLIENT, 1)), 0)
        self.pump.run()
        self.assertEqual(
            [frame[2] for frame in self.process.frames if frame[0] == frames.RECALL], [1]
        )
        self.assertEqual(list(self.outcomes), [2])

    def test_what_is_queued_when_an_outcome_is_told_comes_after_what_waited(self):
        def again(outcome):
            self.submit(command(3))

        self.engine.submit(command(1)).addCallback(again)
        self.submit(command(2))
        self.answer(1)
        self.answer(2)
        self.assertEqual(self.received(), [1, 2, 3])

    def test_output_goes_to_the_command_that_runs_and_wants_it(self):
        heard: list[tuple[str, bytes]] = []
        self.submit(command(1, stream=lambda name, text: heard.append((name, text))), command(2))
        for origin, number in ((CLIENT, 1), (CLIENT, 2), (b"x" * 16, 1)):
            self.link.send(frames.OUTPUT, number, origin + b"stdout", b"text")
        self.pump.run()
        self.assertEqual(heard, [("stdout", b"text")])
        self.answer(1)
        self.link.send(frames.OUTPUT, 1, CLIENT + b"stdout", b"late")
        self.link.send(frames.OUTPUT, 2, CLIENT + b"stdout", b"unwanted")
        self.pump.run()
        self.assertEqual(len(heard), 1)

    @quick
    @given(st.lists(st.sampled_from("saacx")))
    def test_every_command_ends_once_whatever_happens(self, events):
        """Submissions, answers, clearings and losses in any order."""
        EngineCase.setUp(self)
        number = 0
        for event in events:
            if event == "s":
                number += 1
                self.submit(command(number))
            elif event == "a" and self.engine.running_key is not None:
                self.answer(self.engine.running_key[1])
            elif event == "c":
                self.engine.clear_queue()
            elif event == "x":
                self.link_lost("lost")
            queue = self.engine.commands._queue
            waiting = [each.number for each in queue.waiting]
            self.assertEqual(waiting, sorted(waiting))
            self.assertTrue(queue.running is not None or not waiting)
            self.assertEqual(
                len(self.outcomes) + len(waiting) + (queue.running is not None), number
            )
        self.assertEqual(self.received(), sorted(set(self.received())))
        self.link_lost("lost")
        self.assertEqual(len(self.outcomes), number)


class LossTest(EngineCase):
    def test_everything_fails_when_it_dies(self):
        self.submit(command(1), command(2))
        report = self.engine.report({})
        self.link.abort("the process ended")
        self.pump.run()
        self.assertEqual(sorted(self.outcomes), [1, 2])
        for number, name in ((1, "EngineDied"), (2, "NotStarted")):
            outcome = self.outcomes[number]
            self.assertEqual((outcome.status, outcome.error[0]), (messages.REFUSED, name))
            self.assertIn("engine 3 (process 4321) died", outcome.error[1])
        self.failureResultOf(report, EngineDied)
        self.assertEqual(len(self.lost), 1)
        self.submit(command(5))
        self.assertEqual(self.outcomes[5].error[0], "NotStarted")
        self.failureResultOf(self.engine.report({}), EngineDied)
        self.engine.interrupt()
        self.engine.kill()
        self.pump.advance(10)
        self.assertEqual(self.signalled, [])

    def test_it_is_gone_from_the_registry_before_its_commands_fail(self):
        seen = []
        self.engine.submit(command(1)).addCallback(lambda outcome: seen.append(list(self.lost)))
        self.link_lost("gone")
        self.assertEqual(seen, [[(3, "gone")]])

    def test_garbage_from_it_ends_its_connection(self):
        for frame in (
            (99, 1, b"", b""),
            (frames.OUTCOME, 1, b"short", b""),
            (frames.OUTCOME, 1, CLIENT + b"\x00", pack_reference(77), frames.BULK),
            (frames.OUTCOME, 1, CLIENT + b"\x02not JSON", b""),
            (frames.OUTCOME, 1, CLIENT + b"\x09", b""),
            (frames.OUTCOME, 1, CLIENT + b"\x00", b"no buffers"),
            (frames.OUTCOME, 1, CLIENT + b"\x02[1]", b""),
        ):
            EngineCase.setUp(self)
            self.submit(command(1))
            self.link.send(*frame)
            self.pump.run()
            self.flushLoggedErrors(ProtocolError, ValueError)
            self.assertEqual(len(self.lost), 1)
            self.assertEqual(self.outcomes[1].error[0], "EngineDied")


class ControlTest(EngineCase):
    def test_it_provides_its_interface(self):
        self.assertTrue(verifyObject(IEngineQueued, self.engine))
        self.assertTrue(verifyClass(IEngineBase, EngineService))

    def test_reports(self):
        first, second = self.engine.report({"stack": True}), self.engine.report({})
        self.pump.run()
        numbers = [frame[2] for frame in self.process.frames if frame[0] == frames.STATUS]
        for number in reversed(numbers):
            self.link.send(frames.REPLY, number, b"", messages.pack_json({"number": number}))
        self.link.send(frames.REPLY, 99, b"", b"{}")
        self.pump.run()
        answers = [self.successResultOf(each)["number"] for each in (first, second)]
        self.assertEqual(answers, numbers)

    def test_a_report_that_is_given_up_leaves_nothing(self):
        report = self.engine.report({})
        report.addTimeout(1, self.pump)
        self.pump.advance(1)
        self.failureResultOf(report)
        self.assertEqual(self.engine._reports, {})
        self.link.send(frames.REPLY, 1, b"", b"{}")
        self.pump.run()
        self.assertFalse(self.link.lost)

    def test_interrupts_name_the_command(self):
        self.engine.interrupt((CLIENT, 5))
        self.engine.interrupt()
        self.pump.run()
        sent = [(frame[2], frame[3]) for frame in self.process.frames]
        self.assertEqual(sent, [(5, CLIENT), (0, b"")])

    def test_commands_of_the_controllers_own(self):
        calls = [
            self.engine.execute("a = 1"),
            self.engine.push_serialized({"b": Serialized((b"stream", b"data"))}),
            self.engine.pull_serialized(["a", "b"]),
            self.engine.keys(),
            self.engine.reset(),
        ]
        shown = self.engine.queue_status()
        self.assertEqual(shown["pending"], "execute('a = 1')")
        self.assertEqual(shown["queue"], ["push(b)", "pull(a, b)", "keys()", "reset()"])
        for _ in calls:
            self.pump.run()
            number = self.received()[-1]
            self.answer(number, origin=self.engine.local_origin)
        for call in calls:
            self.assertEqual(self.successResultOf(call).status, messages.OK)

    def test_a_queue_that_a_stranger_filled_can_be_looked_at(self):
        self.submit(
            command(1, payload=b""),
            command(2, payload=join_inline([b"[1]"])),
            command(3, payload=join_inline([b'{"source": 5}'])),
            command(4, payload=join_inline([b'{"keys": [1]}'])),
            command(5, payload=join_inline([messages.pack_json({"source": "y" * 200})])),
        )
        status = self.engine.queue_status()
        self.assertEqual([status["pending"], *status["queue"][:3]], ["execute(...)"] * 4)
        self.assertLess(len(status["queue"][3]), 80)

    def test_killing_waits_a_moment_and_then_uses_force(self):
        self.submit(command(1))
        self.engine.kill(grace=1.0)
        self.engine.kill(grace=1.0)
        self.pump.run()
        self.assertEqual([frame[0] for frame in self.process.frames].count(frames.STOP), 1)
        self.pump.advance(0.9)
        self.pump.run()
        self.assertEqual((self.signalled, self.lost), ([], []))
        self.pump.advance(0.1)
        self.pump.run()
        self.assertEqual(self.signalled, [HELLO.pid])
        self.assertEqual(len(self.lost), 1)
        self.assertEqual(self.outcomes[1].error[0], "EngineDied")
        self.assertEqual(self.pump.getDelayedCalls(), [])

    def test_a_process_that_is_not_known_to_be_the_engine_is_not_signalled(self):
        """A false pid in a greeting must not have anybody's process killed."""
        self.processes.known.clear()
        self.engine.attach(self.engine.link, messages.Holds())
        self.engine.kill(grace=1.0)
        self.pump.advance(1.0)
        self.pump.run()
        self.assertEqual(self.signalled, [])
        self.assertEqual(len(self.lost), 1)

    def test_an_engine_that_is_away_is_killed_all_the_same(self):
        killed: list[int] = []
        self.engine.on_killed = lambda: killed.append(self.engine.id)
        self.engine.go_away("a broken network")
        self.engine.kill(grace=1.0)
        self.pump.advance(1.0)
        self.assertEqual((self.signalled, killed), ([HELLO.pid], [3]))

    def test_an_engine_that_ends_in_time_is_not_signalled(self):
        self.engine.kill(grace=1.0)
        self.pump.run()
        self.link.abort("it ended")
        self.pump.run()
        self.assertEqual(self.pump.getDelayedCalls(), [])
        self.pump.advance(5)
        self.assertEqual(self.signalled, [])


class NamedTest(SynchronousTestCase):
    @quick
    @given(
        st.dictionaries(
            st.text(max_size=5), st.lists(st.binary(max_size=5), min_size=1, max_size=3), max_size=4
        )
    )
    def test_named_objects_travel(self, objects):
        namespace = {name: Serialized(tuple(buffers)) for name, buffers in objects.items()}
        buffers = split_inline(join_inline(pack_named(namespace, extra=1)))
        named, head = unpack_named(buffers)
        self.assertEqual(named, namespace)
        self.assertEqual(list(named), list(namespace))
        self.assertEqual(head["extra"], 1)

    def test_buffers_that_do_not_add_up_are_refused(self):
        buffers = pack_named({"a": Serialized((b"x", b"y"))})
        for broken in (buffers[:-1], [*buffers, b"z"]):
            self.assertRaises(ProtocolError, unpack_named, broken)
