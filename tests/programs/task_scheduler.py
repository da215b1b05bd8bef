"""A custom scheduler, named in the controller's ini file, decides what runs next."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ipython1.kernel.task import FIFOScheduler


class EvenFirst(FIFOScheduler):
    """Runs tasks with even numbers before the others, larger numbers first."""

    def tasks(self) -> Iterable[Any]:
        return sorted(super().tasks(), key=lambda task: (task.taskid % 2, -task.taskid))


def main() -> None:
    from ipython1.kernel import client

    tc = client.TaskClient()
    mec = client.MultiEngineClient()
    gate = Path(os.environ["IPYTHONDIR"], "gate")
    held = mec.execute(
        f"import os, time\nwhile not os.path.exists({str(gate)!r}): time.sleep(0.01)", block=False
    )
    ids = [tc.run(client.Task("import time; when = time.time()", pull="when")) for _ in range(12)]
    tc.flush()
    gate.touch()
    held.get_result()
    tc.barrier(ids)
    begun = sorted(ids, key=lambda task_id: tc.get_task_result(task_id)["when"])
    # Some tasks reached the engine before the others arrived; after that, the scheduler sets the order.
    rest = [task_id for task_id in begun if task_id > 3]
    assert rest == [10, 8, 6, 4, 11, 9, 7, 5], begun
    assert tc.map(abs, range(-500, 0)) == list(range(500, 0, -1))
    print("the scheduler was obeyed")


if __name__ == "__main__":
    main()
