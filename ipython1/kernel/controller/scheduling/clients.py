"""The clients of the scheduler: their accounts, and what they are told of their tasks.

Results are collected during a turn and delivered in batches at its end, each to the client that submitted the task and
to those that wait for it.  What a client has not confirmed is delivered again when it comes back.
"""

from __future__ import annotations

from collections.abc import Iterable

from ipython1.kernel.basics.error import (
    InvalidClientID,
    ResultAlreadyRetrieved,
    ResultNotCompleted,
)
from ipython1.kernel.controller.scheduling.accounts import Account, Finished, Lease
from ipython1.kernel.controller.scheduling.instructions import Credit, Deliver
from ipython1.kernel.controller.scheduling.retention import ResultStore
from ipython1.kernel.controller.scheduling.seams import MachineParts


class Clients:
    """The clients of one controller.

    :ivar accounts: the clients that are there or have something left to be done, by uuid.
    :ivar store: the tasks that are done.
    """

    def __init__(self, machine: MachineParts) -> None:
        self.accounts: dict[bytes, Account] = {}
        self.store = ResultStore(machine.settings.keep_size, machine.settings.keep_age)
        self._machine = machine
        self._next_id = 0
        self._deliveries: dict[bytes, list[Finished]] = {}
        self._watchers: dict[int, list[bytes]] = {}
        self._touched: dict[bytes, Account] = {}

    # -- events

    def joined(self, uuid: bytes) -> Account:
        """A client came, or came back; what it has not confirmed is delivered (again)."""
        account = self.accounts.get(uuid)
        if account is None:
            settings = self._machine.settings
            account = Account(uuid, settings.window_tasks, settings.window_size)
            self.accounts[uuid] = account
        account.connected, account.gone = True, False
        account.told, account.granted = account.accepted, account.credit
        for number, (_, finished) in account.unconfirmed.items():
            self._machine.say(Deliver(uuid, number, finished))
        return account

    def left(self, uuid: bytes, now: float, for_good: bool = True) -> None:
        """A client is gone, and may come back unless ``for_good``.  Its tasks go on."""
        account = self.accounts.get(uuid)
        if account is None:
            return
        account.connected = False
        account.gone = for_good
        if for_good:
            self._close(account, now)

    def _close(self, account: Account, now: float) -> None:
        """The results of a client that is gone are for others."""
        for number in list(account.unconfirmed):
            self.confirm(account.uuid, number, now)
        if account.idle:
            self.accounts.pop(account.uuid, None)

    def lease(self, uuid: bytes) -> Lease:
        """A block of task ids for a client.

        :raises InvalidClientID: when the client is unknown.
        """
        lease = self.account(uuid).lease(self._next_id)
        self._next_id = lease.stop
        return lease

    def account(self, uuid: bytes) -> Account:
        """A client's account.

        :raises InvalidClientID: when the client is unknown.
        """
        account = self.accounts.get(uuid)
        if account is None:
            raise InvalidClientID(f"unknown client {uuid.hex()[:8]}")
        return account

    def accepted(self, account: Account, tasks: int) -> None:
        """A client has submitted so many tasks more."""
        account.accepted += tasks
        self._touched[account.uuid] = account

    def confirm(self, uuid: bytes, number: int, now: float) -> None:
        """A client has received the batch of results ``number``; when that is not known, it was confirmed before."""
        account = self.accounts.get(uuid)
        entry = account.unconfirmed.pop(number, None) if account is not None else None
        if account is None or entry is None:
            return
        size, batch = entry
        account.released += len(batch)
        account.unread_size -= size
        self.store.confirmed(batch, now)
        self._touched[uuid] = account
        self._machine.timers.at(now + self._machine.settings.keep_age, "expire")

    def expire(self, now: float) -> None:
        """Let go of results that have been kept long enough."""
        due = self.store.expire(now)
        if due is not None:
            self._machine.timers.at(due, "expire")

    def finished(self, batch: list[Finished]) -> None:
        """Tasks are done."""
        if not batch:
            return
        self.store.add(batch)
        deliveries = self._deliveries
        account = None
        own: list[Finished] = []
        for finished in batch:
            if finished.client is not account:
                account = finished.client
                own = deliveries.setdefault(account.uuid, [])
            own.append(finished)
        if self._watchers:
            for finished in batch:
                for uuid in self._watchers.pop(finished.id, ()):
                    if uuid != finished.client.uuid:
                        self._machine.say(Deliver(uuid, 0, [finished]))

    # -- requests

    def fetch(self, uuid: bytes, task_id: int, wait: bool) -> Finished | None:
        """The result of a task; None when it is not done.

        :param wait: have it delivered to the client ``uuid`` when it is.
        :raises IndexError: when there is no task of that number.
        :raises ResultAlreadyRetrieved: when its result is not kept any more.
        """
        finished = self.store.results.get(task_id)
        if finished is not None:
            return finished
        if task_id in self._machine.tasks:
            if wait:
                watchers = self._watchers.setdefault(task_id, [])
                if uuid not in watchers:
                    watchers.append(uuid)
            return None
        if self.store.knows(task_id):
            raise ResultAlreadyRetrieved(
                f"the result of task {task_id} was delivered to its client and is no longer kept"
            )
        raise IndexError(f"there is no task {task_id}")

    def clear(self, uuid: bytes, task_ids: Iterable[int] | None) -> None:
        """Forget finished tasks: those given, or all but other clients' unread ones.

        :raises IndexError: when there is no task of a given number.
        :raises ResultNotCompleted: when one of them is not done.
        """
        store = self.store
        if task_ids is None:
            unread = {
                finished.id
                for account in self.accounts.values()
                if account.uuid != uuid and account.connected
                for _, batch in account.unconfirmed.values()
                for finished in batch
            }
            for task_id in [*store.succeeded, *store.failed]:
                if task_id not in unread:
                    store.clear(task_id)
            return
        chosen = list(task_ids)
        for task_id in chosen:
            if task_id in self._machine.tasks:
                raise ResultNotCompleted(
                    f"task {task_id} is not done and cannot be cleared; abort it first"
                )
            if not store.knows(task_id):
                raise IndexError(f"there is no task {task_id}")
        for task_id in chosen:
            store.clear(task_id)

    def undelivered(self, uuid: bytes) -> int:
        """How many results wait for the end of the turn."""
        return len(self._deliveries.get(uuid, ()))

    # -- the end of a turn

    def settle(self, now: float) -> None:
        """Deliver what is done, and tell of credit."""
        if self._deliveries:
            self._deliver(now)
        if self._touched:
            for uuid, account in self._touched.items():
                if account.connected and account.credit_due():
                    account.told, account.granted = account.accepted, account.credit
                    self._machine.say(Credit(uuid, account.accepted, *account.granted))
            self._touched = {}

    def _deliver(self, now: float) -> None:
        deliveries, self._deliveries = self._deliveries, {}
        for uuid, batch in deliveries.items():
            account = self.accounts[uuid]
            size = sum(len(finished.payload) for finished in batch)
            number = account.next_batch
            account.next_batch += 1
            account.unread_size += size
            account.unconfirmed[number] = (size, batch)
            if account.connected:
                self._machine.say(Deliver(uuid, number, batch))
            elif account.gone:
                self._close(account, now)
