"""What clients want done about single tasks."""

from __future__ import annotations

from ipython1.kernel.controller.scheduling.clients import Clients
from ipython1.kernel.controller.scheduling.faults import Faults, withdrawn_error
from ipython1.kernel.controller.scheduling.seams import MachineParts


class Requests:
    """Requests about single tasks; the machine carries out."""

    def __init__(self, machine: MachineParts, clients: Clients, faults: Faults) -> None:
        self._machine = machine
        self._clients = clients
        self._faults = faults

    def abort(self, task_id: int, now: float, by_force: bool = True) -> None:
        """End a task that is not done; it ends with ``TaskAborted``.

        :param by_force: kill an engine that does not let go of it in time.
        :raises IndexError: when it is done, or there is none of that number.
        """
        record = self._machine.tasks.get(task_id)
        if record is None:
            if self._clients.store.knows(task_id):
                raise IndexError(f"task {task_id} is completed already; it cannot be aborted")
            raise IndexError(self._clients.unknown(task_id))
        self._faults.abort(record, now, by_force)

    def withdraw(self, task_id: int, now: float) -> bool | None:
        """End a task with ``TaskAborted`` if it has not begun; leave it alone if it has.

        :returns: True when it has ended so, False when it has begun or is done, None when its engine is being asked:
            then ask again.
        """
        record = self._machine.tasks.get(task_id)
        if record is not None:
            return self._faults.withdraw(record, now)
        # It may have come back since it was asked for last time.
        finished = self._clients.store.results.get(task_id)
        return finished is not None and finished.error == withdrawn_error(task_id)

    def has_begun(self, task_id: int) -> bool:
        """Whether a task runs now, for all that is known."""
        record = self._machine.tasks.get(task_id)
        if record is None or record.worker is None:
            return False
        return record.worker.running == (task_id, record.attempt)
