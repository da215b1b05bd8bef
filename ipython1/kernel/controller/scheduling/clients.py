"""The clients of the scheduler: their accounts, and what they are told of their tasks.

Results are collected during a turn and delivered in batches at its end, each to the client that submitted the task and
to those that wait for it.

========================  =======================================================  ==================================
a client that is          on                                                       becomes
========================  =======================================================  ==================================
(unknown)                 ``joined``                                               quiet
quiet                     ``begun``; ``resynchronised`` if it was here before      connected
connected, quiet          ``left``                                                 away: its tasks go on
away                      ``joined``                                               quiet
any                       ``gone``                                                 gone: its results are for others
gone, nothing left to do                                                           (unknown)
========================  =======================================================  ==================================

One that comes back says which results it lacks.  What it does not lack of what it was sent is confirmed with that;
what it lacks and is done is delivered again; and a task that is not done here and not lacked was done once, so it is
not run again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from ipython1.kernel.basics.error import InvalidClientID, ProtocolError, ResultNotCompleted
from ipython1.kernel.controller.idset import IdSet
from ipython1.kernel.controller.scheduling.accounts import Account, Batch, Finished, Lease
from ipython1.kernel.controller.scheduling.custody import Rows
from ipython1.kernel.controller.scheduling.instructions import Credit, Deliver, Keep, Refuse, Tell
from ipython1.kernel.controller.scheduling.records import Parcel, Submission, TaskRecord
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import MachineParts

BATCH_SIZE = 2**20
"""Bytes.  A batch of results is closed when it has reached this size."""

LARGE = 2**17
"""Bytes.  A larger result is a batch of its own."""


class Clients:
    """The clients of one controller.

    :ivar accounts: the clients that are there or have something left to be done, by uuid.
    :ivar store: the tasks that are done.
    :ivar held: bytes of results that are in memory for clients.
    :ivar closed: whether no credit is to be given now.
    """

    def __init__(self, machine: MachineParts) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.store: ResultStore = ResultStore(machine.settings.keep_size, machine.settings.keep_age)
        self.closed: Callable[[], bool] = lambda: False
        self.next_id: int = 0
        self.held: int = 0
        self._machine = machine
        self._deliveries: dict[bytes, Batch] = {}
        self._watchers: dict[int, list[bytes]] = {}
        self._touched: dict[bytes, Account] = {}

    # -- coming and going

    def joined(self, uuid: bytes) -> Account:
        """A client came, or came back; nothing is sent to it before it has said what it has."""
        account = self.accounts.get(uuid)
        if account is None:
            account = self.add(uuid)
        account.connected = account.gone = False
        return account

    def add(self, uuid: bytes) -> Account:
        """A client that is known from now on."""
        settings = self._machine.settings
        account = Account(uuid, settings.window_tasks, settings.window_size)
        self.accounts[uuid] = account
        return account

    def begun(self, uuid: bytes) -> Account:
        """A client that has just come can be told things."""
        account = self.account(uuid)
        account.connected = True
        account.told, account.granted = account.accepted, account.credit
        return account

    def left(self, uuid: bytes) -> None:
        """A client cannot be reached, and may come back.  Its tasks go on."""
        account = self.accounts.get(uuid)
        if account is not None:
            account.connected = False

    def gone(self, uuid: bytes, now: float) -> None:
        """A client will not come back.  Its tasks go on, and their results are for others."""
        account = self.accounts.get(uuid)
        if account is not None:
            account.connected = False
            account.gone = True
            self._close(account, now)
            self._machine.predecessors.look_again()

    def _close(self, account: Account, now: float) -> None:
        for number in list(account.unconfirmed):
            self._confirmed(account, number, now)
        if account.idle and account.gone:
            self.accounts.pop(account.uuid, None)

    def resynchronised(
        self,
        uuid: bytes,
        missing: Iterable[tuple[int, int]],
        now: float,
        failed: Iterable[tuple[int, int]] = (),
    ) -> Account:
        """A client that is back says which of its tasks' results it lacks, and which of them failed, as ranges."""
        account = self.account(uuid)
        lacks = {
            task_id
            for start, stop in missing
            for lease in account.leases
            for task_id in range(max(start, lease.start), min(stop, lease.next))
        }
        self._machine.told_before(
            [
                record.id
                for record in self._machine.tasks.values()
                if record.client is account and record.id not in lacks
            ],
            now,
            IdSet(failed),
        )
        coming = {finished.id for finished in self._collected(uuid)}
        coming.update(task_id for arriving in account.arriving for task_id in arriving)
        in_memory = self._split(account, lacks, coming, now)
        account.connected = True
        for batch in account.unconfirmed.values():
            self._machine.say(Deliver(uuid, batch))
        rest = sorted(task_id for task_id in lacks - coming if task_id not in self._machine.tasks)
        self._deliver_again(account, rest, in_memory, now)
        for task_id in rest:
            if not self.store.knows(task_id):
                error = ("ResultAlreadyRetrieved", self.unknown(task_id))
                self._machine.say(Refuse(uuid, task_id, error))
        account.granted = (0, 0)
        account.told, account.granted = account.accepted, account.credit
        return account

    def _split(
        self, account: Account, lacks: set[int], coming: set[int], now: float
    ) -> dict[int, Finished]:
        """End the batches of which a client has anything; returns what it lacks of them and is in memory.

        :param coming: gets what it lacks of the others.
        """
        in_memory: dict[int, Finished] = {}
        for number, batch in list(account.unconfirmed.items()):
            if lacks.issuperset(batch.ids):
                coming.update(batch.ids)
                continue
            in_memory.update((each.id, each) for each in batch.finished if each.id in lacks)
            batch.taken = lacks.isdisjoint(batch.ids)
            self._confirmed(account, number, now)
        return in_memory

    def _deliver_again(
        self, account: Account, task_ids: list[int], in_memory: Mapping[int, Finished], now: float
    ) -> None:
        """Deliver what was confirmed once, or what an earlier controller had."""
        known = [each for each in task_ids if self.store.knows(each)]
        stored = [each for each in known if each not in in_memory]
        batches = [stored[start : start + 1000] for start in range(0, len(stored), 1000)]
        batches += [[each] for each in known if each in in_memory]
        for ids in batches:
            again = Batch(account)
            again.ids = ids
            again.finished = [in_memory[each] for each in ids if each in in_memory]
            again.size = sum(len(each.payload) for each in again.finished)
            again.kept = True  # as far as that matters, by those that they were in
            account.released -= len(ids)
            self._send(again, now)

    # -- submissions

    def lease(self, uuid: bytes) -> Lease:
        """A block of task ids for a client.

        :raises InvalidClientID: when the client is unknown.
        """
        lease = self.account(uuid).lease(self.next_id)
        self.next_id = lease.stop
        return lease

    def account(self, uuid: bytes) -> Account:
        """A client's account.

        :raises InvalidClientID: when the client is unknown.
        """
        account = self.accounts.get(uuid)
        if account is None:
            raise InvalidClientID(f"unknown client {uuid.hex()[:8]}")
        return account

    def admit(self, uuid: bytes, submissions: Iterable[Submission], now: float) -> list[TaskRecord]:
        """Tasks arrive, in rising order of ids; returns those that have not arrived before.

        :raises InvalidClientID: when the client is unknown, or an id is not one of those it has leased.
        :raises ProtocolError: when it submits far more than its credit allows.
        """
        account = self.account(uuid)
        if account.overdrawn:
            raise ProtocolError(f"the client {account.name} submits more than its credit allows")
        fresh: list[TaskRecord] = []
        lease: Lease | None = None
        size = 0
        for task_id, options, payload, companions in submissions:
            if lease is None or not lease.start <= task_id < lease.stop:
                lease = account.lease_of(task_id)
                if lease is None:
                    raise InvalidClientID(
                        f"the client {account.name} submitted a task as number {task_id}, "
                        "which is not one of its ids"
                    )
            if task_id < lease.next:
                self._machine.dropped += 1
                continue
            lease.next = task_id + 1
            record = TaskRecord(task_id, account, options, payload, now)
            if companions:
                record.accompany(companions)
                size += record.size
            else:
                size += len(payload)
            fresh.append(record)
        if fresh:
            account.arrived += len(fresh)
            account.arrived_size += size
            account.arriving.append([record.id for record in fresh])
        return fresh

    def accepted(self, records: Sequence[TaskRecord], parcel: Parcel | None) -> None:
        """Tasks that had arrived together are safe; a client's become so in order."""
        self.store.observer.accepted(records)
        account = records[0].client
        account.arriving.popleft()
        if parcel is not None:
            for record in records:
                record.parcel = parcel
        account.accepted += len(records)
        self._touched[account.uuid] = account

    def arriving(self) -> list[int]:
        """The tasks that have arrived and are not safe yet."""
        accounts = self.accounts.values()
        return [task_id for account in accounts for ids in account.arriving for task_id in ids]

    # -- results

    def finished(self, done: list[Finished], rows: Rows | None = None) -> None:
        """Tasks are done.

        :param rows: what an engine told of them; it is safe when they are.
        """
        if not done:
            return
        self.store.add(done)
        self._machine.predecessors.note(done)
        deliveries = self._deliveries
        account = None
        own: list[Finished] = []
        for finished in done:
            if finished.client is not account:
                account = finished.client
                batch = deliveries.get(account.uuid)
                if batch is None:
                    batch = deliveries[account.uuid] = Batch(account)
                if rows is not None and (not batch.waiting or batch.waiting[-1] is not rows):
                    batch.waiting.append(rows)
                    rows.waits += 1
                own = batch.finished
            own.append(finished)
        if self._watchers:
            for finished in done:
                for uuid in self._watchers.pop(finished.id, ()):
                    if uuid != finished.client.uuid:
                        self._machine.say(Tell(uuid, finished))

    def told_before(self, finished: Finished, rows: Rows | None, now: float) -> None:
        """A task is done whose client has its result from an earlier controller."""
        if not finished.payload:
            finished.private = True  # it is kept nowhere else
        self.store.add([finished])
        self._machine.predecessors.note([finished])
        account = finished.client
        account.released += 1
        batch = Batch(account)
        batch.finished, batch.ids, batch.size = [finished], [finished.id], len(finished.payload)
        batch.taken = batch.confirmed = True
        if rows is not None:
            batch.waiting.append(rows)
            rows.waits += 1
        self._hold(batch, now)

    def over(self, account: Account, parcel: Parcel) -> None:
        """The last task of a submission is done."""
        batch = self._deliveries.get(account.uuid)
        if batch is None:
            batch = self._deliveries[account.uuid] = Batch(account)
        batch.over.append(parcel.number)

    def confirm(self, uuid: bytes, number: int, now: float) -> None:
        """A client has received the batch of results ``number``; when that is not known, it was confirmed before."""
        account = self.accounts.get(uuid)
        batch = account.unconfirmed.get(number) if account is not None else None
        if account is not None and batch is not None:
            batch.taken = True
            self._confirmed(account, number, now)

    def _confirmed(self, account: Account, number: int, now: float) -> None:
        batch = account.unconfirmed.pop(number)
        account.released += len(batch.ids)
        if not self._machine.settings.journal:
            account.unread_size -= batch.size
        batch.confirmed = True
        if batch.kept:
            self._release(batch, now)
        self._touched[account.uuid] = account

    def kept(self, batch: Batch, now: float) -> None:
        """A batch of results is safe, or nobody keeps a journal."""
        batch.kept = True
        for rows in batch.waiting:
            rows.waits -= 1
        batch.waiting = []
        if batch.confirmed:
            self._release(batch, now)

    def spilled(self, batch: Batch, now: float) -> None:
        """A batch that is kept and not confirmed is not to be held in memory."""
        self._release(batch, now)

    def _release(self, batch: Batch, now: float) -> None:
        if batch.finished:
            self._add_held(batch.client, -batch.size)
            self.store.release(batch, now)
            self._machine.timers.at(now + self._machine.settings.keep_age, "expire")

    def _add_held(self, account: Account, size: int) -> None:
        account.held += size
        self.held += size
        if self._machine.settings.journal:
            self.store.make_room(self.held)

    def expire(self, now: float) -> None:
        """Let go of results that have been kept long enough."""
        due = self.store.expire(now)
        if due is not None:
            self._machine.timers.at(due, "expire")

    # -- requests

    def fetch(self, uuid: bytes, task_id: int, wait: bool) -> Finished | bool:
        """The result of a task; False when it is not done, True when it is and its result is not here.

        :param wait: have it delivered to the client ``uuid`` when it is done.
        :raises IndexError: when there is no task of that number.
        """
        finished = self.store.results.get(task_id)
        if finished is not None:
            return finished
        if task_id in self._machine.tasks:
            if wait:
                watchers = self._watchers.setdefault(task_id, [])
                if uuid not in watchers:
                    watchers.append(uuid)
            return False
        if self.store.knows(task_id):
            return True
        raise IndexError(self.unknown(task_id))

    def unknown(self, task_id: int) -> str:
        """Why there is no task of this number, for people."""
        if task_id < self.next_id:
            return (
                f"there is no task {task_id}: it was cleared, or it was never submitted because its client ended "
                "before the controller had it"
            )
        return f"there is no task {task_id}"

    def clear(self, uuid: bytes, task_ids: Iterable[int] | None) -> list[int]:
        """Forget finished tasks: those given, or all but other clients' unread ones; returns them.

        :raises IndexError: when there is no task of a given number.
        :raises ResultNotCompleted: when one of them is not done.
        """
        store = self.store
        if task_ids is None:
            unread = {
                task_id
                for account in self.accounts.values()
                if account.uuid != uuid and not account.gone
                for batch in account.unconfirmed.values()
                for task_id in batch.ids
            }
            chosen = [each for each in (*store.succeeded, *store.failed) if each not in unread]
        else:
            chosen = list(task_ids)
            for task_id in chosen:
                if task_id in self._machine.tasks:
                    raise ResultNotCompleted(
                        f"task {task_id} is not done and cannot be cleared; abort it first"
                    )
                if not store.knows(task_id):
                    raise IndexError(self.unknown(task_id))
        for task_id in chosen:
            store.clear(task_id)
        return chosen

    def _collected(self, uuid: bytes) -> list[Finished]:
        batch = self._deliveries.get(uuid)
        return [] if batch is None else batch.finished

    def undelivered(self, uuid: bytes) -> int:
        """How many results wait for the end of the turn."""
        return len(self._collected(uuid))

    # -- the end of a turn

    def settle(self, now: float) -> None:
        """Deliver what is done, and tell of credit."""
        if self._deliveries:
            deliveries, self._deliveries = self._deliveries, {}
            for batch in deliveries.values():
                self._deliver(batch, now)
        if self._touched and not self.closed():
            for uuid, account in self._touched.items():
                if account.connected and account.credit_due():
                    account.told, account.granted = account.accepted, account.credit
                    self._machine.say(Credit(uuid, account.accepted, *account.granted))
            self._touched = {}

    def _deliver(self, batch: Batch, now: float) -> None:
        """Deliver a batch, in parts if it is large."""
        finished = batch.finished
        if not finished:
            self._hold(batch, now)  # it has only what is over
            return
        size = sum(len(each.payload) for each in finished)
        parts = [batch]
        if size > BATCH_SIZE or (size > LARGE and len(finished) > 1):
            parts = [batch.part(some) for some in _cut(finished)]
            parts[-1].waiting, parts[-1].over = batch.waiting, batch.over
        account = batch.client
        for part in parts:
            part.ids = [each.id for each in part.finished]
            part.size = sum(len(each.payload) for each in part.finished)
            self._send(part, now)
        if account.gone:
            self._close(account, now)

    def _send(self, batch: Batch, now: float) -> None:
        account = batch.client
        batch.number = account.next_batch
        account.next_batch += 1
        account.unconfirmed[batch.number] = batch
        if not self._machine.settings.journal:
            account.unread_size += batch.size
        self._hold(batch, now)
        self._machine.say(Deliver(account.uuid, batch))

    def _hold(self, batch: Batch, now: float) -> None:
        """A batch is in memory until it is kept, and confirmed or spilled."""
        self._add_held(batch.client, batch.size)
        if not self._machine.settings.journal:
            self.kept(batch, now)
        elif not batch.kept:
            self._machine.say(Keep(batch))


def _cut(finished: list[Finished]) -> list[list[Finished]]:
    """Parts of some size, and large results alone."""
    parts: list[list[Finished]] = []
    part: list[Finished] = []
    size = 0
    for each in finished:
        length = len(each.payload)
        if length > LARGE:
            parts.append([each])
            continue
        part.append(each)
        size += length
        if size >= BATCH_SIZE:
            parts.append(part)
            part, size = [], 0
    if part:
        parts.append(part)
    return parts
