"""What was: the tasks of all clients, those that are not done yet among them, and what was submitted."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from heapq import merge, nlargest
from itertools import islice
from typing import Final

from ipython1.kernel.basics.error import ClientError, ProtocolError
from ipython1.kernel.controller.clientregistry import ClientRegistry
from ipython1.kernel.controller.enginetasks import EngineFace
from ipython1.kernel.controller.filepayload import FilePayload, LostPayload
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import StoredResult
from ipython1.kernel.controller.journal.rows import TaskHistory as DoneTask
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.records import TaskRecord
from ipython1.kernel.controller.taskrows import TaskRows
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.frames import Bytes
from ipython1.kernel.wire.tasksync import FAILED, PENDING, SCHEDULED, STATES, SUCCEEDED, TaskEntry
from ipython1.kernel.wire.taskwire import DONE_HEAD, Entry, OptionsSpec, Status

MOST: Final = 10_000
"""Entries that one question can ask for."""

AT_ONCE: Final = 200
"""Results that are read from the journal at a time."""


class TaskHistory:
    """Answers questions about what was.

    :param clients: knows who they are.
    """

    def __init__(
        self, machine: TaskMachine, journal: Journal, rows: TaskRows, clients: ClientRegistry
    ) -> None:
        self._machine = machine
        self._journal = journal
        self._rows = rows
        self._registry = clients

    async def entries(
        self,
        uuid: bytes,
        limit: int,
        before: int | None = None,
        states: Sequence[str] | None = None,
        own: bool = False,
    ) -> list[TaskEntry]:
        """The last ``limit`` tasks, in the order of their ids.

        :param before: ids below this one; None for all.
        :param states: None for all.
        :param own: only those that the client ``uuid`` has submitted.
        :raises ProtocolError: when the question makes no sense.
        """
        wanted = STATES if states is None else tuple(states)
        if not set(wanted) <= set(STATES) or not 0 <= limit <= MOST:
            raise ProtocolError(
                f"tasks in the states {wanted} were asked for, {limit} at most; there are {STATES}, "
                f"and up to {MOST} tasks can be asked for at a time"
            )
        candidates = self._falling(wanted, before)
        if own:
            candidates = self._own(uuid, candidates)
        chosen = sorted(islice(candidates, limit))
        entries = {entry.taskid: entry for entry in self._at_hand(chosen)}
        missing = [task_id for task_id in chosen if task_id not in entries]
        for start in range(0, len(missing), AT_ONCE):
            part = missing[start : start + AT_ONCE]
            stored = await self._journal.fetch_results(part)
            for task_id in part:
                what = _what(self._machine.store.tasks.get(task_id))
                entries[task_id] = self._kept(task_id, stored.get(task_id))._replace(what=what)
        return [entries[task_id] for task_id in chosen]

    def _falling(self, states: Sequence[str], before: int | None) -> Iterator[int]:
        """The ids of all tasks in some states, falling."""
        store = self._machine.store
        live: list[int] = []
        if SCHEDULED in states or PENDING in states:
            pending = set(self._machine.survey.pending())
            live = [
                task_id
                for task_id in sorted(self._machine.tasks, reverse=True)
                if (PENDING if task_id in pending else SCHEDULED) in states
            ]
        rows: list[Iterable[int]] = [live]
        rows += [
            _falling(ids)
            for state, ids in ((SUCCEEDED, store.succeeded), (FAILED, store.failed))
            if state in states
        ]
        found = merge(*rows, reverse=True)
        return found if before is None else (each for each in found if each < before)

    def _own(self, uuid: bytes, task_ids: Iterator[int]) -> Iterator[int]:
        account = self._machine.clients.accounts.get(uuid)
        return (
            task_id
            for task_id in task_ids
            if account is not None and account.lease_of(task_id) is not None
        )

    def _at_hand(self, task_ids: list[int]) -> Iterator[TaskEntry]:
        """What is known in memory."""
        pending = set(self._machine.survey.pending())
        for task_id in task_ids:
            record = self._machine.tasks.get(task_id)
            finished = self._machine.store.results.get(task_id)
            if record is not None:
                yield self._live(record, PENDING if task_id in pending else SCHEDULED)
            elif finished is not None:
                [(head, payload)] = self._rows.rows([finished])
                entry = self._done(finished.client.uuid, head, payload, len(payload))
                yield entry._replace(what=_what(finished.task))

    def in_memory(self, limit: int, before: float | None = None) -> list[DoneTask]:
        """The last tasks that are done and whose results are in memory, latest first; those completed before a time."""
        offset = self._rows.time(0.0)
        kept = self._machine.store.results.values()
        wanted = (each for each in kept if before is None or each.completed + offset < before)
        return [
            DoneTask(
                each.id,
                each.client.uuid,
                each.status,
                each.engine,
                each.submitted + offset,
                each.completed + offset,
                each.duration,
                len(each.payload),
            )
            for each in nlargest(limit, wanted, key=lambda each: (each.completed, each.id))
        ]

    def _live(self, record: TaskRecord, state: str) -> TaskEntry:
        return TaskEntry(
            record.id,
            record.client.uuid.hex(),
            self._label(record.client.uuid),
            state,
            None if record.worker is None else record.worker.id,
            self._rows.time(record.submitted),
            what=_what(record),
        )

    def _done(self, client: bytes, head: bytes, payload: Bytes, size: int) -> TaskEntry:
        task_id, _, status, engine, _, submitted, completed, duration = DONE_HEAD.unpack(head)
        error = None
        if status == Status.REFUSED and payload:
            name, message = messages.unpack_json(payload)
            error = (str(name), str(message))
        return TaskEntry(
            task_id,
            client.hex(),
            self._label(client),
            FAILED if status else SUCCEEDED,
            engine if engine >= 0 else None,
            submitted,
            completed,
            duration,
            size,
            error,
        )

    def _kept(self, task_id: int, stored: StoredResult | None) -> TaskEntry:
        if stored is None:
            state = FAILED if task_id in self._machine.store.failed else SUCCEEDED
            return TaskEntry(task_id, "", "", state, None, 0.0)
        payload = stored.payload
        if isinstance(payload, bytes):
            return self._done(stored.client, stored.head, payload, len(payload))
        return self._done(stored.client, stored.head, b"", payload.size)

    def _label(self, client: bytes) -> str:
        identity = self._registry.identity(client)
        return "" if identity is None else identity.label

    async def engines(
        self, task_ids: Sequence[int], registered: Mapping[int, EngineFace]
    ) -> dict[int, int | None]:
        """Where tasks ran whose results are in the journal, if these engines are still there.

        :param registered: the engines, by id.
        :returns: engines' ids by task id; None where that is not known.
        :raises JournalError: when they cannot be read.
        """
        engines: dict[int, int | None] = dict.fromkeys(task_ids)
        for task_id, stored in (await self._journal.fetch_results(task_ids)).items():
            _, _, _, engine, _, _, completed, _ = DONE_HEAD.unpack(stored.head)
            face = registered.get(engine)
            if face is not None and face.engine.registered <= completed:
                engines[task_id] = engine
        return engines

    # -- what was submitted

    async def submission(self, task_id: int) -> tuple[Entry, tuple[bytes, ...]]:
        """A task as it was submitted, and the digests of the functions that it refers to.

        :raises IndexError: when there is no such task.
        :raises ClientError: when what was submitted is not kept any more.
        :raises JournalError: when it cannot be read.
        """
        task: object = self._machine.tasks.get(task_id)
        if task is None:
            finished = self._machine.store.results.get(task_id)
            task = self._machine.store.tasks.get(task_id) if finished is None else finished.task
            if finished is None and not self._machine.store.knows(task_id):
                raise IndexError(self._machine.clients.unknown(task_id))
        if not isinstance(task, TaskRecord):
            raise ClientError(
                f"task {task_id} is done, and what was submitted is no longer kept, so it cannot be submitted again: "
                "of finished tasks the controller keeps that in its memory only, within result_age and result_size, "
                "and not when only one client reads the result or when it is restarted; make the task again and run it"
            )
        chain = task.chain
        if chain[0][0].aborted:
            raise ClientError(
                f"task {task_id} was aborted before its client had sent it, so it cannot be submitted again; make the "
                "task again and run it"
            )
        parts: list[tuple[bytes, Bytes]] = [
            (terms.packed, await self._bytes(payload)) for terms, payload in chain
        ]
        if task.links is not None:
            parts.insert(1, (task.links, b""))
        digests = [
            digest for terms, _ in chain for digest in (*terms.functions, terms.depend) if digest
        ]
        return Entry(task.id, *parts[0], parts[1:]), tuple(dict.fromkeys(digests))

    async def _bytes(self, payload: Bytes | FilePayload | LostPayload) -> Bytes:
        if isinstance(payload, FilePayload | LostPayload):
            return await payload.read(self._journal)
        return payload


def _what(task: object) -> str:
    """What a task does, in a few words."""
    return OptionsSpec.unpack(task.chain[0][0].packed).what if isinstance(task, TaskRecord) else ""


def _falling(ids: IdSet) -> Iterator[int]:
    for start, stop in reversed(ids.ranges()):
        yield from range(stop - 1, start - 1, -1)
