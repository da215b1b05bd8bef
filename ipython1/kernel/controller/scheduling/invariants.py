"""What must hold between any two events.

:func:`check` is for tests; it looks at everything and takes its time.
"""

from __future__ import annotations

from ipython1.kernel.controller.scheduling.machine import TaskMachine
from ipython1.kernel.controller.scheduling.records import (
    ABORTING,
    ASSIGNED,
    QUEUED,
    UNCLEAR,
    WAITING,
    TaskRecord,
    WorkerRecord,
)
from ipython1.kernel.wire.taskwire import epoch_of


class BrokenInvariant(AssertionError):
    """The machine is in a state that must not be; tells the story of the task concerned."""


def _demand(condition: bool, what: str, record: TaskRecord | None = None) -> None:
    if not condition:
        raise BrokenInvariant(what if record is None else f"{what}: {record.story()}")


def check(machine: TaskMachine, arrived: int = 0) -> None:
    """Check everything.

    :param arrived: tasks that have arrived and are not accepted yet.
    :raises BrokenInvariant: with what does not hold.
    """
    places = _check_queue(machine)
    _check_restored(machine, places)
    _check_waiting(machine, places)
    _check_workers(machine, places)
    for task_id, record in machine.tasks.items():
        _demand(record.id == task_id, "a task is filed under another's number", record)
        _demand(task_id in places, "a task is neither queued nor assigned nor unclear", record)
        _demand(not machine.store.knows(task_id), "a task is done and not done", record)
    _demand(len(places) == len(machine.tasks), "there are tasks that nobody knows")
    _check_store(machine)
    _check_accounts(machine, arrived)


def _check_queue(machine: TaskMachine) -> set[int]:
    places: set[int] = set()
    for record in machine.assigner.records():
        _demand(record.state is QUEUED, "a task in the queue has another state", record)
        _demand(record.worker is None, "a task in the queue has an engine", record)
        settled = record.trouble is not None and record.trouble.verdict is not None
        _demand(not settled, "a task in the queue is to be aborted", record)
        _demand(record.id not in places, "a task is queued twice", record)
        _demand(machine.tasks.get(record.id) is record, "a task in the queue is not known", record)
        places.add(record.id)
    _demand(len(machine.assigner) == len(places), "the queue's length is wrong")
    return places


def _check_restored(machine: TaskMachine, places: set[int]) -> None:
    restored = machine.restored
    for task_id, record in restored.unclear.items():
        _demand(record.state is UNCLEAR, "a task that is unclear has another state", record)
        _demand(record.worker is None, "a task that is unclear has an engine", record)
        _demand(task_id not in places, "a task is queued and unclear", record)
        _demand(machine.tasks.get(task_id) is record, "a task that is unclear is not known", record)
        places.add(task_id)
    _demand(bool(restored.awaited) or not restored.unclear, "tasks wait for nobody")
    _demand(restored.awaited <= machine.workers.keys(), "an engine is awaited that is gone")
    for engine in restored.awaited:
        _demand(machine.workers[engine].away, f"engine {engine} is awaited and is there")


def _check_waiting(machine: TaskMachine, places: set[int]) -> None:
    predecessors = machine.predecessors
    for task_id, group in predecessors.waiting.items():
        record = group.records.get(task_id)
        _demand(record is not None, f"task {task_id} waits in a group that does not know it")
        assert record is not None
        _demand(record.state is WAITING, "a task that waits for others has another state", record)
        _demand(record.worker is None, "a task that waits for others has an engine", record)
        _demand(task_id not in places, "a task waits for others and is elsewhere", record)
        _demand(machine.tasks.get(task_id) is record, "a task that waits is not known", record)
        _demand(not group.over, "a task waits in a group that is over", record)
        places.add(task_id)


def _check_workers(machine: TaskMachine, places: set[int]) -> None:
    for engine, worker in machine.workers.items():
        _demand(worker.id == engine, f"engine {engine} is filed under another's number")
        for task_id, record in worker.outstanding.items():
            _demand(task_id == record.id, "a task is filed under another's number", record)
            _demand(task_id not in places, "a task is in two places", record)
            _check_assigned(machine, worker, record)
            places.add(task_id)
        work = sum(record.estimate for record in worker.outstanding.values())
        _demand(
            abs(work - worker.work) < 1e-6,
            f"the load of engine {engine} is {worker.work}, not {work}",
        )
        for what, ids in (
            ("guards what", worker.guarded),
            ("sends results that", worker.arriving),
            ("has its time counted for what", worker.timed),
        ):
            had = ids <= worker.outstanding.keys()
            _demand(had, f"engine {engine} {what} it does not have")
        _check_deadline(machine, worker)
        _demand(
            len(worker.outstanding) <= machine.settings.prefetch.most,
            f"engine {engine} has too many tasks",
        )
        if engine in machine.roomy:
            _demand(worker.usable, f"engine {engine} is offered and cannot be used")
        else:
            _demand(
                not worker.usable or bool(worker.outstanding),
                f"engine {engine} idles and is not offered",
            )
    _demand(machine.roomy.keys() <= machine.workers.keys(), "an engine is offered that is gone")


def _check_assigned(machine: TaskMachine, worker: WorkerRecord, record: TaskRecord) -> None:
    _demand(record.state in (ASSIGNED, ABORTING), "an engine's task has another state", record)
    _demand(record.worker is worker, "a task is not where it thinks it is", record)
    _demand(record.attempt > 0, "a task runs that was never assigned", record)
    current = epoch_of(record.attempt) == machine.settings.epoch
    restored = record.id in machine.restored.ids
    _demand(current or restored, "a task runs in an epoch that is not its own", record)
    _demand(machine.tasks.get(record.id) is record, "an engine's task is not known", record)
    counted = record.id in worker.timed
    _demand(counted or not record.options.timeout, "nobody counts a task's time", record)
    verdict = record.trouble.verdict if record.trouble is not None else None
    _demand(
        (record.state is ABORTING) == (verdict is not None), "a verdict without an abort", record
    )


def _check_deadline(machine: TaskMachine, worker: WorkerRecord) -> None:
    """What an engine runs and has a time limit is counted, whatever the engine does."""
    head = worker.first()
    if head is not None and head.id in worker.timed and not worker.away:
        counted = worker.deadline is not None and worker.deadline[0] == head.key
        _demand(counted or head.state is ABORTING, "nobody counts the time of a run", head)


def _check_store(machine: TaskMachine) -> None:
    store = machine.store
    for task_id, finished in store.results.items():
        _demand(finished.id == task_id, f"result {task_id} is filed under another's number")
        _demand(store.knows(task_id), f"task {task_id} has a result and is not known to be done")
        _demand(task_id not in machine.tasks, f"task {task_id} has a result and is not done")
    for task_id, task in store.tasks.items():
        _demand(task.id == task_id, f"task {task_id} is filed under another's number")
        _demand(store.knows(task_id), f"task {task_id} is kept and not known to be done")
        _demand(task_id not in store.results, f"task {task_id} is kept twice")
    both = set(store.succeeded) & set(store.failed)
    _demand(not both, f"tasks {sorted(both)} have both succeeded and failed")


def _check_accounts(machine: TaskMachine, arrived: int) -> None:
    live: dict[bytes, int] = dict.fromkeys(machine.clients.accounts, 0)
    for record in machine.tasks.values():
        uuid = record.client.uuid
        _demand(
            machine.clients.accounts.get(uuid) is record.client,
            "a task's client is not known",
            record,
        )
        live[uuid] += 1
    for uuid, account in machine.clients.accounts.items():
        unread = machine.clients.undelivered(uuid) + sum(map(len, account.unconfirmed.values()))
        _demand(
            account.accepted == account.released + live[uuid] + unread,
            f"client {account.name}: {account.accepted} tasks accepted, {account.released} confirmed, "
            f"{unread} unread and {live[uuid]} live do not add up",
        )
        _demand(account.unread_size >= 0, f"client {account.name} has read more than there was")
        for lease in account.leases:
            _demand(
                lease.start <= lease.next <= lease.stop, f"client {account.name} has a broken lease"
            )
        arrived -= account.arrived - account.accepted
    _demand(not arrived, "tasks have arrived that are neither accepted nor waited for")
