"""Tasks come in: from clients by way of the journal, and from the journal after a restart.

A task is given to an engine only when it is in the journal.  So whatever an engine runs is known to whoever comes after
this controller, and a client that sends a task again never has it run again.  Of a task that its client aborted before
it was sent, only that comes, in the task's place and by the same way; then it is aborted here, for all who wait for it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeAlias

from twisted.logger import Logger

from ipython1.kernel.basics.error import JournalError, KernelError, MessageSizeError, to_wire
from ipython1.kernel.controller.filepayload import FilePayload
from ipython1.kernel.controller.journal.interface import Journal
from ipython1.kernel.controller.journal.rows import PayloadFile, Recovered, SubmissionRow
from ipython1.kernel.controller.scheduling.accounts import Account, Lease
from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.records import (
    Companion,
    Parcel,
    Submission,
    TaskRecord,
    TaskTerms,
)
from ipython1.kernel.wire import taskwire
from ipython1.kernel.wire.frames import Buffer, Bytes
from ipython1.kernel.wire.tasklinks import Links

log: Logger = Logger()

ReadOptions: TypeAlias = Callable[[bytes], Any]
"""Makes the terms of tasks from their packed options."""


class TaskIntake:
    """Takes tasks over.

    :param time: seconds since the epoch at a time of the machine.
    :param changed: called when something has happened.
    """

    def __init__(
        self,
        machine: TaskMachine,
        journal: Journal,
        now: Callable[[], float],
        time: Callable[[float], float],
        changed: Callable[[], None],
    ) -> None:
        self._machine = machine
        self._journal = journal
        self._now = now
        self._time = time
        self._changed = changed
        self._last = 0

    def submit(
        self, uuid: bytes, submissions: Iterable[Submission], data: Buffer, bodies: Bytes | None
    ) -> None:
        """A client submits tasks.

        :param data: they as they came: the payload of the frame, or its meta part if there are ``bodies``.
        :param bodies: what a bulk transfer brought.
        :raises KernelError: see ``Clients.admit``.
        """
        now = self._now()
        records = self._machine.clients.admit(uuid, submissions, now)
        if not records:
            return
        if not self._journal.keeps:
            self._accept(records, None)
            return
        row = SubmissionRow(
            uuid,
            records[0].id,
            records[-1].id,
            len(records),
            self._time(now),
            bytes(data),
            bodies,
        )
        self._last = self._journal.submission(row)
        parcel = Parcel(self._last, len(records))
        self._journal.when_safe(self._last, lambda: self._accept(records, parcel))

    def refuse(self, uuid: bytes, submissions: Iterable[Submission], reason: str) -> None:
        """A client submits tasks whose data did not come; they are done, with an error.

        :raises KernelError: see ``Clients.admit``.
        """
        records = self._machine.clients.admit(uuid, submissions, self._now())

        def fail() -> None:
            self._accept(records, None)
            for record in records:
                problem = MessageSizeError(
                    f"the controller did not take task {record.id} ({record.size} bytes): {reason}"
                )
                self._fail(record, problem)

        if records:
            self.after(uuid, fail)

    def _fail(self, record: TaskRecord, problem: KernelError) -> None:
        """A task cannot be run."""
        self._machine.unqueue(record)
        status = taskwire.Status.REFUSED
        self._machine.finish(record, status, -1, self._now(), error=to_wire(problem))

    def _accept(self, records: list[TaskRecord], parcel: Parcel | None) -> None:
        self._machine.accept(records, parcel, self._now())
        self._abort(records)
        self._changed()

    def _abort(self, records: Iterable[TaskRecord]) -> None:
        """End those tasks that their clients aborted before they were sent."""
        for record in records:
            if record.options.aborted:
                self._machine.abort(record.id, self._now())

    def after(self, uuid: bytes, call: Callable[[], None]) -> None:
        """Call ``call`` when all that a client has submitted so far is known to the machine."""
        account = self._machine.clients.accounts.get(uuid)
        if account is not None and account.arriving:
            self._journal.when_safe(self._last, call)
        else:
            call()

    # -- after a restart

    def restore(self, recovered: Recovered, read_options: ReadOptions) -> None:
        """Take over what an earlier controller had; the functions are there already."""
        machine = self._machine
        clients = machine.clients
        clients.next_id = recovered.next_task
        for done, ids in (
            (clients.store.succeeded, recovered.succeeded),
            (clients.store.failed, recovered.failed),
            (clients.store.past_succeeded, recovered.past_succeeded),
            (clients.store.past_failed, recovered.past_failed),
        ):
            for start, stop in ids.ranges():
                done.add_range(start, stop)
        for client in recovered.clients:
            clients.add(client.uuid)
        for row in sorted(recovered.leases, key=lambda row: row.start):
            account = clients.accounts.get(row.client) or clients.add(row.client)
            account.add_lease(Lease(row.start, row.stop, row.next))
            account.arrived += row.next - row.start
        lost: dict[int, str] = {}
        records = self._live_tasks(recovered, read_options, lost)
        self._count(clients.accounts.values(), records)
        engines = [engine.engine_id for engine in recovered.engines]
        machine.restore(records, engines, self._now())
        for task_id, why in lost.items():
            problem = JournalError(f"task {task_id} is lost: {why}")
            self._fail(machine.tasks[task_id], problem)
        self._abort(records)
        living = {client.uuid for client in recovered.clients}
        for uuid in [uuid for uuid in clients.accounts if uuid not in living]:
            clients.gone(uuid, self._now())

    @staticmethod
    def _count(accounts: Iterable[Account], records: list[TaskRecord]) -> None:
        """Have the accounts say that their clients submitted these tasks, and have the results of all others."""
        for record in records:
            account = record.client
            if not account.leases:  # it is gone
                account.arrived += 1
            account.arrived_size += record.size
        for account in accounts:
            account.accepted = account.released = account.arrived
        for record in records:
            record.client.released -= 1

    def _live_tasks(
        self, recovered: Recovered, read_options: ReadOptions, lost: dict[int, str]
    ) -> list[TaskRecord]:
        """The tasks that are not done, in order.

        :param lost: gets the reasons why some of them cannot be run.
        """
        done = (recovered.succeeded, recovered.failed, recovered.cleared)
        live: dict[int, TaskRecord] = {}
        over: list[int] = []
        for row in recovered.submissions:
            parcel = Parcel(row.number, 0)
            for record in self._read(row, read_options, lost):
                if record.id not in live and not any(record.id in ids for ids in done):
                    live[record.id] = record
                    record.parcel = parcel
                    parcel.left += 1
                else:
                    lost.pop(record.id, None)
            if not parcel.left:
                over.append(row.number)
        if over:
            self._journal.submissions_over(over)
        return list(live.values())

    def _read(
        self, row: SubmissionRow, read_options: ReadOptions, lost: dict[int, str]
    ) -> Iterator[TaskRecord]:
        """The tasks of a submission."""
        clients = self._machine.clients
        account = clients.accounts.get(row.client) or clients.add(row.client)
        now = self._now()
        submitted = now + row.submitted - self._time(now)
        entries: list[Any] = taskwire.unpack_submissions(
            row.data, bytes, _bodies(row), taskwire.uncut
        )
        for entry in entries:
            companions: list[Companion]
            try:
                terms = read_options(entry.options)
                companions = [
                    (each if isinstance(each, Links) else read_options(each), data)
                    for each, data in entry.recovery
                ]
            except KernelError as problem:
                lost[entry.task_id] = str(problem)
                terms, companions = TaskTerms(self._machine.templates.get(b"")), []
            record = TaskRecord(entry.task_id, account, terms, entry.payload, submitted)
            record.accompany(companions)
            yield record


def _bodies(row: SubmissionRow) -> Any:
    """The payloads of a submission, as ``unpack_submissions`` takes them."""
    if isinstance(row.bodies, PayloadFile):
        return FilePayload(row.bodies, 0, row.bodies.size)
    return row.bodies
