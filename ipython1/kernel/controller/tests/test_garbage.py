"""Engines and clients that send anything: it costs them their connection, and nobody else anything.

Each history is made from a seed: frames that are almost right, from a party of each kind, next to engines and clients
that must be served as if nothing had happened.
"""

from __future__ import annotations

import json
import os
import random
import struct
import uuid
from collections.abc import Callable, Iterator
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import CompositeError
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.controller.monitor import IMonitor
from ipython1.kernel.controller.monitorfc import IFCMonitor
from ipython1.kernel.objects.taskobjects import MapTask
from ipython1.kernel.tests.wiresupport import Recorder
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.failurenotes import Note, pack_note
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.monitoring import pack_news
from ipython1.kernel.wire.payload import join_inline
from ipython1.testing import InMemoryCluster
from ipython1.testing.memory import connect_in_memory

SEEDS = int(os.environ.get("IPYTHON1_TEST_EXAMPLES", "25"))
MOST_CALLS = 100_000
QUESTIONS = (
    *("get_ids", "resolve", "queue_status", "clear_queue", "abort", "withdraw", "interrupt"),
    *("report", "stacks", "begin", "lease", "engines", "abort_many", "has_begun", "fetch", "clear"),
    *("spin", "resync", "submission", "history", "task_status", "news", "__class__", None, 5),
)
ARGUMENTS = (
    *("targets", "number", "within", "request", "taskid", "taskids", "wait", "limit", "before"),
    *("missing", "functions", "states", "own", "verbose", "by_force", "mark"),
)
VALUES = (
    *(None, 0, 1, -1, 2**70, 1e308, float("nan"), float("inf"), "x", True),
    *([], [0], [[0]], {}, {"a": 1}, [None], [10**20], ["0"]),
)
Frame = tuple[int, int, bytes, bytes]


class Nonsense:
    """Frames that are almost right."""

    def __init__(self, seed: str) -> None:
        self.random = random.Random(seed)

    def number(self) -> int:
        choose = self.random
        return choose.choice(
            (0, 1, 2, 3, 2**31 - 1, 2**31, 2**32, 2**63, 2**64 - 1, choose.getrandbits(64))
        )

    def noise(self, most: int = 80) -> bytes:
        return self.random.randbytes(self.random.randrange(most))

    def frame(self) -> Frame:
        """One frame: kind, flags, meta and payload."""
        kind, flags, meta, payload = self.random.choice(list(self._plausible()))
        if self.random.random() < 0.1:
            kind = self.random.randrange(256)
        if self.random.random() < 0.1:
            flags = self.random.choice((0, 1, 255))
        return kind, flags, self._changed(meta)[: frames.MAX_META], self._changed(payload)

    def _changed(self, data: bytes) -> bytes:
        changed = bytearray(data)
        for _ in range(self.random.choice((0, 0, 1, 1, 2, 5))):
            at = self.random.randrange(len(changed) + 1)
            how = self.random.randrange(3)
            if how == 0:
                changed[at : at + 1] = self.random.randbytes(1)
            elif how == 1:
                del changed[at:]
            else:
                changed[at:at] = self.noise(20)
        return bytes(changed)

    def _plausible(self) -> Iterator[Frame]:
        choose = self.random.choice
        yield from self._of_commands()
        yield from self._of_tasks()
        yield (frames.BULK_OPEN, 0, b"", struct.pack("<I2Q", 2, 10, choose((5, 2**62))))
        yield (frames.BULK_PIECE, 0, b"", bytes(10))
        yield (frames.BULK_ACK, 0, struct.pack("<I", choose((0, 1, 2**32 - 1))), b"")
        for kind in (frames.BULK_ABORT, frames.BULK_REFUSE, frames.BULK_FORGET, frames.WAITED):
            yield (kind, 0, b"x", b"")
        for _ in range(4):
            args: Any = {choose(ARGUMENTS): choose(VALUES) for _ in range(choose((0, 1, 2, 3)))}
            question = {"name": choose(QUESTIONS), "args": choose((args, args, [], None))}
            yield (frames.ASK, 0, b"", messages.pack_json(question))

    def _of_commands(self) -> Iterator[Frame]:
        choose = self.random.choice
        targets = choose((None, (0,), (0, 0, 0), (9,), (2,)))
        source = join_inline([messages.pack_json({"source": "a = 5"})])
        yield (frames.SUBMIT, 0, messages.SubmitMeta("execute", targets).pack(), source)
        who = choose((b"c" * 16, self.noise()))
        note = pack_note(Note("E: m", "Traceback\n" * 9))
        why = choose((b"", b'["a","b"]', b"[]", b"null", b"5", note, note[:-1]))
        yield (frames.OUTCOME, 0, who + bytes([choose((0, 1, 2, 3, 9))]) + why, join_inline([b"x"]))
        yield (frames.OUTPUT, 0, b"c" * 16 + b"stdout", b"text")
        for kind in (frames.REPLY, frames.WAITING, frames.PROPERTIES):
            yield (kind, 0, b"", b"{}")

    def _of_tasks(self) -> Iterator[Frame]:
        choose = self.random.choice
        options = taskwire.OptionsSpec(
            bytes(16),
            retries=choose((0, 2**31)),
            priority=choose((0, -(2**31))),
            timeout=choose((0.0, 1e308, float("inf"), 1e-300)),
            weight=choose((1, 2**32 - 1)),
        ).pack()
        count = range(choose((1, 2, 3)))
        entries = [taskwire.Entry(self.number(), options, b"data") for _ in count]
        results = [
            (
                self.number(),
                self.number(),
                choose((0, 1, 4, 77)),
                choose((0.0, -1.0, float("nan"))),
                b"p",
            )
            for _ in count
        ]
        found: list[Frame] = []
        for made in (
            taskwire.pack_submissions(entries),
            taskwire.pack_results(
                results, choose((0, 1, 5)), choose((0.0, 1e308)), {0: Note("E", "T", 2**32 - 1)}
            ),
        ):
            for parts, _ in made:
                frames.dispatch(
                    b"".join(parts),
                    lambda kind, flags, ident, meta, payload: found.append(
                        (kind, flags, bytes(meta), bytes(payload))
                    ),
                )
        yield from found
        yield (taskwire.BEGUN, 0, struct.pack("<Q", self.number()), b"")
        yield (taskwire.GIVEN_BACK, 0, b"", taskwire.pack_keys([(self.number(), self.number())]))
        yield (taskwire.FUNCTION, 0, bytes(16), b"f")
        yield (taskwire.FORGET, 0, bytes(16), b"")
        yield (taskwire.DEPENDS, 0, bytes(16) + b"\1", b"")


class Liar:
    """An engine that answers everything it is sent, and nothing right."""

    def __init__(self, choose: random.Random) -> None:
        self.random = choose
        self.link: FrameLink | None = None
        self.lost = False
        self.runs = 0
        self._row = 1

    def link_lost(self, reason: str) -> None:
        self.lost = True

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        assert self.link is not None
        choose = self.random.choice
        if kind == taskwire.RUN and not flags:
            rows = []
            for task_id, attempt, _, _ in taskwire.unpack_runs(bytes(payload)):
                self.runs += 1
                status = choose((0, 0, 1, 2, 3, 4, 5, 77, 255))
                seconds = choose((0.0, 0.0, -1.0, float("nan"), float("inf"), 1e308, 1e-320))
                rows.append((task_id, attempt, status, seconds, choose((b"", b"p", bytes(100)))))
            rows *= choose((1, 1, 2))
            notes = {choose((0, 1, 9)): Note("E", "T", choose((0, 1, 2**32 - 1)))}
            for parts, size in taskwire.pack_results(rows, self._row, choose((0.0, 1e308)), notes):
                self.link.send_packed(parts, size)
            self._row += len(rows)
        elif kind == frames.COMMAND:
            why = choose((b"", b"[]", b'["A","b"]', b"null"))
            answer = bytes(meta)[:16] + bytes([choose((0, 1, 2, 3, 7))]) + why
            payload = choose((b"", b"x", bytes(3), join_inline([b"y"]), join_inline([b"y"]) + b"z"))
            self.link.send(frames.OUTCOME, ident, answer, payload, choose((0, 0, 0, 1)))


class GarbageTests(SynchronousTestCase):
    def cluster(self, engines: int) -> InMemoryCluster:
        cluster = InMemoryCluster(engines)
        cluster.controller.interfaces["task"] = cluster.task_face.tasks
        cluster.controller.observer.news()
        return cluster

    def faces(self, cluster: InMemoryCluster) -> dict[str, Any]:
        return {
            messages.ENGINE: cluster.engines_face,
            messages.MULTIENGINE: cluster.multiengine_face,
            messages.TASK: cluster.task_face,
            messages.MONITOR: IFCMonitor(IMonitor(cluster.controller)),
        }

    def join(self, cluster: InMemoryCluster, face: Any, role: str, receiver: Any) -> FrameLink:
        greeting = messages.Hello(
            uuid=uuid.uuid4().hex, pid=1, host="there", role=role, secret=messages.new_secret()
        )
        session = face.accept(greeting)
        link, there = connect_in_memory(cluster.pump, receiver, session)
        session.attach(there)
        session.opened()
        return link

    def settle(self, cluster: InMemoryCluster, seconds: float = 0.0) -> None:
        cluster.pump.run(MOST_CALLS)
        if seconds:
            cluster.pump.advance(seconds)
            cluster.pump.run(MOST_CALLS)

    def assert_all_well(self, cluster: InMemoryCluster, mec: Any, tc: Any) -> None:
        mec.execute("a = 1", targets=[0])
        self.assertEqual(mec.pull("a", targets=[0]), [1])
        self.assertEqual(list(tc.map(lambda x: x + 1, range(3))), [1, 2, 3])
        status = tc.queue_status()
        self.assertEqual((status["pending"], status["scheduled"]), (0, 0))
        news = cluster.controller.observer.news()
        cluster.pump.advance(1.0)
        json.dumps(pack_news(self.successResultOf(news)), allow_nan=False)
        for call in cluster.pump.getDelayedCalls():
            self.assertLess(call.getTime(), 1e9, call)

    def send_nonsense(self, role: str, seed: int) -> None:
        cluster = self.cluster(2)
        face = self.faces(cluster)[role]
        mec, tc = cluster.multiengine(), cluster.task()
        nonsense = Nonsense(f"{role} {seed}")
        chance = nonsense.random.random
        link = self.join(cluster, face, role, Recorder())
        for _ in range(60):
            if link.lost:
                link = self.join(cluster, face, role, Recorder())
            kind, flags, meta, payload = nonsense.frame()
            link.send(
                kind, nonsense.number() % (2**64 if chance() < 0.7 else 4), meta, payload, flags
            )
            if chance() < 0.5:
                self.settle(cluster, 30.0 if chance() < 0.1 else 0.0)
        self.settle(cluster, 1.0)
        link.abort("the end")
        self.settle(cluster, 100.0)
        self.assertLessEqual({0, 1}, set(mec.get_ids()), "an engine that did nothing wrong is gone")
        self.assert_all_well(cluster, mec, tc)

    def check(self, role: str) -> None:
        for seed in range(SEEDS):
            with self.subTest(seed=seed):
                self.send_nonsense(role, seed)
        self.flushLoggedErrors()

    def test_an_engine(self):
        self.check(messages.ENGINE)

    def test_a_client_of_engines(self):
        self.check(messages.MULTIENGINE)

    def test_a_client_for_tasks(self):
        self.check(messages.TASK)

    def test_somebody_who_looks(self):
        self.check(messages.MONITOR)

    def lie(self, seed: str, work: Callable[[Any, Any, random.Random], None]) -> int:
        """Have three liars do some work, one after the other beside an honest engine; how many tasks they had."""
        choose = random.Random(seed)
        cluster = self.cluster(1)
        mec, tc = cluster.multiengine(), cluster.task()
        liars: list[Liar] = []
        for _ in range(3):
            liars.append(Liar(choose))
            face = cluster.engines_face
            liars[-1].link = self.join(cluster, face, messages.ENGINE, liars[-1])
            work(mec, tc, choose)
            self.settle(cluster, 1.0)
        for liar in liars:
            if not liar.lost:
                liar.link.abort("the end")
        self.settle(cluster, 100.0)
        self.assert_all_well(cluster, mec, tc)
        return sum(liar.runs for liar in liars)

    def test_engines_that_answer_nonsense_to_tasks(self):
        def work(mec: Any, tc: Any, choose: random.Random) -> None:
            for number in range(20):
                retries = choose.choice((0, 3))
                tc.asynchronous.run(MapTask(lambda x: x, (number,), retries=retries))

        runs = sum(self.lie(f"tasks {seed}", work) for seed in range(SEEDS))
        self.assertGreater(runs, 10 * SEEDS)
        self.flushLoggedErrors()

    def test_engines_that_answer_nonsense_to_commands(self):
        """What the honest engine gave is there, and the client is as well."""
        for seed in range(SEEDS):
            ended: list[Any] = []

            def work(mec: Any, tc: Any, choose: random.Random) -> None:
                for _ in range(3):
                    call = mec.asynchronous.execute("a = 1", targets="all", block=True)
                    call.addBoth(ended.append)

            self.lie(f"commands {seed}", work)
            self.assertEqual(len(ended), 9)
            for result in ended:
                good = isinstance(result, ResultList)
                self.assertTrue(good or result.check(CompositeError), result)
        self.flushLoggedErrors()

    def test_one_line_is_logged_and_no_traceback(self):
        cluster = self.cluster(1)
        for kind, meta in ((200, b""), (frames.BULK_ACK, b""), (taskwire.RESULTS, b"")):
            link = self.join(cluster, cluster.engines_face, messages.ENGINE, Recorder())
            link.send(kind, 1, meta, b"x")
            self.settle(cluster)
            self.assertTrue(link.lost)
        self.assertEqual(self.flushLoggedErrors(), [])
