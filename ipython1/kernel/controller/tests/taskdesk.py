"""A controller with its task interface, and engines and clients that speak its protocol step by step.

The controller can be killed and started again on what its journal had written, and every link can break.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from ipython1.kernel.controller.config import Graces, TaskConfig
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.enginefc import FCEngines
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import INLINE, ResultBatch, SubmissionRow
from ipython1.kernel.controller.journal.tests.memoryjournal import MemoryJournal
from ipython1.kernel.controller.task import TaskController
from ipython1.kernel.controller.taskfc import FCTaskController
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.bulk import unpack_reference
from ipython1.kernel.wire.frames import Buffer
from ipython1.kernel.wire.link import FrameLink
from ipython1.kernel.wire.tasksync import ResyncAnswer, ranges_of
from ipython1.kernel.wire.taskwire import DONE_HEAD, Entry, OptionsSpec, Status
from ipython1.testing.memory import Pump, connect_in_memory

GRACES = Graces(engine=10.0, restart=60.0, client=3600.0)
OPTIONS = OptionsSpec(b"t" * 16)
OK = Status.OK
Key = tuple[int, int]


class FileJournal(MemoryJournal):
    """A journal in memory that puts large data into files, as a real one does."""

    def _in_file(self, data: Any) -> Any:
        if not isinstance(data, bytes) or len(data) <= INLINE:
            return data
        writer = self.new_payload()
        writer.add(data)
        return writer.finish()

    def submission(self, row: SubmissionRow) -> int:
        return super().submission(row._replace(bodies=self._in_file(row.bodies)))

    def results(self, batches: Sequence[ResultBatch], over: Iterable[int] = ()) -> int:
        kept = [batch._replace(payload=self._in_file(batch.payload)) for batch in batches]
        return super().results(kept, over)


class Desk:
    """A controller."""

    def __init__(self, journal: Journal | None = None, config: TaskConfig | None = None) -> None:
        self.pump = Pump()
        self.config = config
        self.start(journal)

    def start(self, journal: Journal | None) -> None:
        self.service = ControllerService(
            self.pump, graces=GRACES, journal=journal, task_config=self.config
        )
        self.tasks = TaskController(self.service)
        self.face = FCTaskController(self.tasks)
        self.engines_face = FCEngines(self.service)
        self.service.recover()
        self.pump.run()

    def die(self, *parties: Party) -> None:
        """The controller is killed; its links break, and what it had planned does not happen."""
        for party in parties:
            party.cut()
        self.pump.run()
        for call in self.pump.getDelayedCalls():
            call.cancel()
        self.pump._waiting.clear()

    def commit(self) -> None:
        """What was given to the journal is written, if there is one."""
        journal = self.service.journal
        if isinstance(journal, MemoryJournal):
            journal.commit()
        self.pump.run()

    def wait(self, seconds: float) -> None:
        self.pump.run()
        self.pump.advance(seconds)
        self.pump.run()


class Party:
    """An end of a link."""

    role = ""

    def __init__(self, desk: Desk) -> None:
        self.desk = desk
        self.uuid = uuid.uuid4().hex
        self.secret = messages.new_secret()
        self.link: FrameLink | None = None
        self.controller_link: FrameLink | None = None
        self.welcome: messages.Welcome | None = None

    def hello(self) -> messages.Hello:
        return messages.Hello(
            uuid=self.uuid, pid=os.getpid(), host="there", role=self.role, secret=self.secret
        )

    def face(self) -> Any:
        raise NotImplementedError

    def connect(self) -> None:
        session = self.face().accept(self.hello())
        self.link, self.controller_link = connect_in_memory(self.desk.pump, self, session)
        self.welcome = session.attach(self.controller_link)
        session.opened()
        self.desk.pump.run()

    def cut(self) -> None:
        """The link breaks; what is on its way is lost."""
        if self.link is not None:
            link, there = self.link, self.controller_link
            self.link = self.controller_link = None
            link.connection_lost("the network failed")
            assert there is not None
            there.connection_lost("the network failed")

    def link_lost(self, reason: str) -> None:
        self.link = None

    def send(
        self, kind: int, ident: int = 0, meta: bytes = b"", payload: bytes = b"", flags: int = 0
    ) -> None:
        assert self.link is not None
        self.link.send(kind, ident, meta, payload, flags)

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        raise NotImplementedError


class WireEngine(Party):
    """An engine whose every step the test decides.

    :ivar runs: what it has, in order, as (task id, attempt) and payload.
    :ivar kept: rows that are not safe, by number.
    :ivar ever: all runs that it was given.
    :ivar ran: the tasks whose runs have ended here.
    :ivar verdict: why it was to stop its last run.
    """

    role = messages.ENGINE

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.runs: dict[Key, bytes] = {}
        self.kept: dict[int, taskwire.Result] = {}
        self.row = 0
        self.stopped: list[Key] = []
        self.verdict = b""
        self.functions: dict[bytes, bytes] = {}
        self.killed = 0
        self.ever: list[Key] = []
        self.ran: list[int] = []
        self.connect()

    def face(self) -> Any:
        return self.desk.engines_face

    def hello(self) -> messages.Hello:
        ended = tuple((row[0], row[1]) for row in self.kept.values())
        return messages.Hello(
            uuid=self.uuid,
            pid=os.getpid(),
            host="there",
            role=self.role,
            secret=self.secret,
            holds=messages.Holds(runs=tuple(self.runs), ended=ended),
        )

    @property
    def id(self) -> int:
        assert self.welcome is not None and self.welcome.engine_id is not None
        return self.welcome.engine_id

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        if kind == taskwire.RUN and flags & frames.BULK:
            task_id, attempt, _ = taskwire.unpack_run(meta)
            self._large(payload, lambda data: self._got((task_id, attempt), data))
        elif kind == taskwire.RUN:
            for task_id, attempt, _, data in taskwire.unpack_runs(payload):
                self._got((task_id, attempt), data)
        elif kind == taskwire.SAFE:
            self.kept = {row: result for row, result in self.kept.items() if row > ident}
        elif kind == taskwire.STOP:
            self.stopped.append((ident, taskwire.unpack_attempt(meta)))
            self.verdict = bytes(payload)
        elif kind == taskwire.RETRACT:
            keys = [key for key in taskwire.unpack_keys(payload) if key in self.runs]
            for key in keys:
                del self.runs[key]
            self.send(taskwire.GIVEN_BACK, 0, b"", taskwire.pack_keys(keys))
        elif kind == taskwire.FUNCTION:
            self.functions[bytes(meta)] = bytes(payload)
        elif kind == taskwire.FORGET:
            self.functions.pop(bytes(meta), None)
        elif kind == frames.STOP:
            self.killed += 1

    def _large(self, payload: Buffer, take: Any) -> None:
        assert self.link is not None

        def complete(buffers: Any, reason: str) -> None:
            if buffers is not None:
                take(b"".join(buffers))

        self.link.bulk.take(unpack_reference(payload), complete)

    def _got(self, key: Key, data: bytes) -> None:
        assert key not in self.ever, "a run came twice"
        self.ever.append(key)
        self.runs[key] = data

    def begin(self) -> None:
        """It begins the next run, and says so."""
        key = next(iter(self.runs))
        self.send(taskwire.BEGUN, key[0], taskwire.pack_attempt(key[1]))
        self.desk.pump.run()

    def end(
        self, number: int = 1, status: Status = Status.OK, data: bytes | None = None
    ) -> list[int]:
        """The next runs end; returns the ids of their tasks."""
        ended = []
        for _ in range(number):
            key = next(iter(self.runs))
            payload = self.runs.pop(key)
            self.ran.append(key[0])
            self.row += 1
            result = b"result of " + payload if data is None else data
            self.kept[self.row] = (*key, int(status), 0.01, result)
            ended.append(key[0])
            if self.link is not None:
                self._tell(self.row)
        self.desk.pump.run()
        return ended

    def _tell(self, row: int) -> None:
        assert self.link is not None
        result = self.kept[row]
        if len(result[4]) > taskwire.INLINE:
            head = taskwire.pack_result_head(*result[:4])
            self.link.send_large(taskwire.RESULTS, row, head, [result[4]])
        else:
            for parts, size in taskwire.pack_results([result], row):
                self.link.send_packed(parts, size)

    def come_back(self) -> None:
        """It registers again, and tells what was not safe."""
        self.connect()
        assert self.welcome is not None
        if not self.welcome.known:
            self.runs.clear()
            self.kept.clear()
        for row in sorted(self.kept):
            self._tell(row)
        self.desk.pump.run()


class WireClient(Party):
    """A client whose every step the test decides.

    :ivar results: by id: status, and payload or error.
    :ivar silent: whether it confirms nothing.
    """

    role = messages.TASK

    def __init__(self, desk: Desk) -> None:
        super().__init__(desk)
        self.ids: list[int] = []
        self.submitted: dict[int, Entry] = {}
        self.results: dict[int, tuple[Status, Any]] = {}
        self.told = 0
        self.accepted = 0
        self.credit = (0, 0)
        self.silent = False
        self.answers: dict[int, Any] = {}
        self.questions = 0
        self.frames: list[tuple[int, bytes, bytes]] = []
        self.connect()
        number = self.ask_later("begin")
        # Ids are given when it is safe that they are.
        self.desk.commit()
        block, self.credit = self.answer(number)
        self.ids = list(range(*block))

    def face(self) -> Any:
        return self.desk.face

    def ask_later(self, name: str, **args: Any) -> int:
        """Ask, and return the number of the question."""
        self.questions += 1
        question = messages.pack_json({"name": name, "args": args})
        self.send(frames.ASK, self.questions, b"", question)
        self.desk.pump.run()
        return self.questions

    def answer(self, number: int) -> Any:
        """The answer to a question, which must be there."""
        answer = self.answers.pop(number)
        if "error" in answer:
            raise RuntimeError(": ".join(answer["error"]))
        return answer["value"]

    def ask(self, name: str, **args: Any) -> Any:
        return self.answer(self.ask_later(name, **args))

    def submit(
        self, payloads: Iterable[bytes], options: OptionsSpec = OPTIONS, recovery: Any = ()
    ) -> list[int]:
        entries = [Entry(self.ids.pop(0), options.pack(), each, recovery) for each in payloads]
        self.submitted.update({entry.task_id: entry for entry in entries})
        self.send_entries(entries)
        return [entry.task_id for entry in entries]

    def send_entries(self, entries: list[Entry]) -> None:
        assert self.link is not None
        small = [entry for entry in entries if entry.size <= taskwire.INLINE]
        for parts, size in taskwire.pack_submissions(small):
            self.link.send_packed(parts, size)
        for entry in entries:
            if entry.size > taskwire.INLINE:
                head, bodies = taskwire.pack_submission_head(entry)
                self.link.send_large(taskwire.SUBMIT, 0, head, bodies)
        self.desk.pump.run()

    def frame_received(
        self, kind: int, flags: int, ident: int, meta: Buffer, payload: Buffer
    ) -> None:
        assert self.link is not None
        if kind == taskwire.DONE:
            if flags & frames.BULK:
                head = bytes(meta)

                def complete(buffers: Any, reason: str) -> None:
                    if buffers is not None:
                        self._done(head + b"".join(buffers))

                self.link.bulk.take(unpack_reference(payload), complete)
            else:
                self._done(bytes(payload))
            if ident and not self.silent:
                self.send(taskwire.CONFIRM, ident)
        elif kind == taskwire.CREDIT:
            self.accepted, self.credit = ident, taskwire.unpack_credit(meta)
        elif kind == frames.REPLY:
            self.answers[ident] = json.loads(bytes(payload))
        elif kind != frames.ENGINES:
            self.frames.append((kind, bytes(meta), bytes(payload)))

    def _done(self, data: bytes) -> None:
        position = 0
        while position < len(data):
            task_id, size, status, *_ = DONE_HEAD.unpack_from(data, position)
            position += DONE_HEAD.size
            value: Any = data[position : position + size]
            if status == Status.REFUSED:
                value = tuple(json.loads(value))
            self.told += 1
            self.results.setdefault(task_id, (Status(status), value))
            position += size

    def come_back(self) -> ResyncAnswer:
        """It registers again, says what it lacks, and sends what had not arrived."""
        self.connect()
        missing = [each for each in sorted(self.submitted) if each not in self.results]
        failed = [each for each, (status, _) in sorted(self.results.items()) if status is not OK]
        ranges = {"missing": ranges_of(missing), "failed": ranges_of(failed)}
        value = self.ask("resync", functions=[], **ranges)
        answer = ResyncAnswer.unpack(value)
        arrived = [range(lease.start, lease.next) for lease in answer.leases]
        self.send_entries(
            [
                entry
                for task_id, entry in sorted(self.submitted.items())
                if not any(task_id in ids for ids in arrived)
            ]
        )
        return answer
