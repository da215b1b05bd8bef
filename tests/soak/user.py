"""A user's process: works until its standard input ends, then waits for all outcomes and ends with status 0.

python -m tests.soak.user NAME SEED FOLDER
"""

from __future__ import annotations

import hashlib
import re
import sys
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from ipython1.kernel import client
from tests.soak import notes
from tests.soak.notes import Notebook

PATIENCE = 180.0
"""Seconds that one wait may take."""

OUTSTANDING = 300
"""Tasks and commands of one user that have no outcome yet, at most."""

DEATH = re.compile(r"(?:EngineDied|NotStarted): engine \d+ (?:\(process (\d+)\) )?died")
"""A controller that was started again does not always know the process of an engine that died meanwhile."""


def connected(make: Callable[..., Any]) -> Any:
    """A new client.  While a controller is killed none can be made, which its user sees; then he tries again."""
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return make(timeout=PATIENCE)
        except client.ConnectionError:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


class User:
    """Three threads: tasks; commands; maps and large objects."""

    def __init__(self, name: str, seed: str, folder: Path) -> None:
        self.name = name
        self._seed = seed
        self._book = Notebook(folder / f"user-{name}")
        self._runs = folder / "runs"
        self._over = threading.Event()
        self._failed = False

    def work(self) -> int:
        """Work until the end of standard input; returns the exit status."""
        jobs = (self._tasks, self._commands, self._maps)
        threads = [
            threading.Thread(target=self._guarded, args=(job, number), daemon=True)
            for number, job in enumerate(jobs)
        ]
        for thread in threads:
            thread.start()
        print("ready", flush=True)
        sys.stdin.read()
        self._over.set()
        for thread in threads:
            thread.join(2 * PATIENCE)
            if thread.is_alive():
                self._book.write("trouble", "thread", "x", "hangs")
                self._failed = True
        return 1 if self._failed else 0

    def _guarded(self, job: Callable[[Random], None], number: int) -> None:
        try:
            job(Random(f"{self._seed} {number}"))
        except BaseException as problem:
            self._failed = True
            self._book.write("trouble", "thread", str(number), repr(problem)[:500])
            traceback.print_exc()

    # -- tasks

    def _tasks(self, chance: Random) -> None:
        tc = connected(client.TaskClient)
        waiting: dict[int, str] = {}
        number = 0
        while not self._over.is_set():
            made = []
            for _ in range(chance.choice((1, 5, 40))):
                key = f"{self.name}-{number}"
                number += 1
                seconds = chance.choice((0.0, 0.0, 0.002, 0.02))
                size = chance.choice((0, 0, 0, 0, 0, 20_000, 600_000))
                self._book.write("made", notes.TASK, key)
                arguments = (str(self._runs), key, seconds, size)
                made.append((key, client.MapTask(notes.run_task, arguments, retries=1000)))
            ids = tc.run_many([task for _, task in made])
            for (key, _), task_id in zip(made, ids, strict=True):
                waiting[task_id] = key
            if chance.random() < 0.5:
                tc.flush()
                for (key, _), task_id in zip(made, ids, strict=True):
                    self._book.write("acknowledged", notes.TASK, key, task_id)
            self._collect(tc, waiting, all_of_them=len(waiting) > OUTSTANDING)
            self._over.wait(chance.choice((0.0, 0.02, 0.2)))
        self._collect(tc, waiting, all_of_them=True)
        tc.close()

    def _collect(self, tc: Any, waiting: dict[int, str], all_of_them: bool) -> None:
        if all_of_them and waiting:
            tc.barrier(list(waiting), timeout=PATIENCE)
        for task_id in list(waiting):
            result = tc.get_task_result(task_id)
            if result is None:
                continue
            key = waiting.pop(task_id)
            if result.failure is not None:
                told = repr(result.failure).replace(" ", "_")
                self._book.write("done", notes.TASK, key, task_id, "failed", told)
                continue
            told_key, mark, _ = result.result
            self._book.write("done", notes.TASK, key, task_id, "ok", told_key, mark)

    # -- commands

    def _commands(self, chance: Random) -> None:
        mec = connected(client.MultiEngineClient)
        waiting: list[tuple[str, Any]] = []
        number = 0
        while not self._over.is_set():
            ids = mec.get_ids()
            if not ids:
                self._over.wait(0.1)
                continue
            targets = chance.choice(("all", chance.choice(ids)))
            key = f"{self.name}-{number}"
            number += 1
            code = notes.command(self._runs, key, chance.choice((0.0, 0.0, 0.01)))
            self._book.write("made", notes.COMMAND, key)
            try:
                if chance.random() < 0.3:
                    # With block=True an engine that dies meanwhile is told the same way.
                    self._ended(key, lambda: mec.execute(code, targets=targets, block=True))
                else:
                    waiting.append((key, mec.execute(code, targets=targets, block=False)))
            except (client.InvalidEngineID, client.NoEnginesRegistered):
                self._book.write("done", notes.COMMAND, key, "refused")
            while len(waiting) > OUTSTANDING // 10:
                key, pending = waiting.pop(0)
                self._ended(key, lambda: pending.get_result(timeout=PATIENCE))
            self._over.wait(chance.choice((0.0, 0.01, 0.1)))
        for key, pending in waiting:
            self._ended(key, lambda: pending.get_result(timeout=PATIENCE))
        mec.close()

    def _ended(self, key: str, call: Callable[[], Any]) -> None:
        """Note the outcomes of a command: the processes in which it ran, and those that are said to have died."""
        try:
            results = call()
        except (client.InvalidEngineID, client.NoEnginesRegistered):
            self._book.write("done", notes.COMMAND, key, "refused")
            return
        except client.CompositeError as problem:
            results = [each for each in problem.results if not isinstance(each, Exception)]
            for each in problem.exceptions:
                died = DEATH.search(f"{type(each).__name__}: {each}")
                if died is None:
                    told = f"{type(each).__name__}:{each}".replace(" ", "_").replace("\n", "_")
                    self._book.write("trouble", notes.COMMAND, key, told[:300])
                else:
                    kind = type(each).__name__
                    self._book.write("died", notes.COMMAND, key, died.group(1) or 0, kind)
        pids = [each["stdout"].strip() for each in results]
        self._book.write("done", notes.COMMAND, key, "ok", *pids)

    # -- maps and large objects

    def _maps(self, chance: Random) -> None:
        tc = connected(client.TaskClient)
        mec = connected(client.MultiEngineClient)
        number = 0
        while not self._over.is_set():
            key = f"{self.name}-{number}"
            number += 1
            if chance.random() < 0.5:
                self._map(tc, key, chance.choice((1, 30, 500)))
            else:
                self._object(mec, key, chance)
            self._over.wait(chance.choice((0.0, 0.05, 0.3)))
        tc.close()
        mec.close()

    def _map(self, tc: Any, key: str, count: int) -> None:
        self._book.write("made", notes.MAP, key, count)
        path = str(self._runs)
        mapper = tc.mapper(retries=1000)
        squares = mapper.map(notes.run_item, [path] * count, [key] * count, range(count))
        right = squares == [each * each for each in range(count)]
        self._book.write("done", notes.MAP, key, count, "ok" if right else "WRONG")

    def _object(self, mec: Any, key: str, chance: Random) -> None:
        ids = mec.get_ids()
        if not ids:
            return
        engine = chance.choice(ids)
        data = chance.randbytes(chance.choice((1000, 300_000, 3_000_000)))
        name = f"data_{self.name}"
        self._book.write("made", notes.OBJECT, key)
        try:
            mec.push({name: data}, targets=engine)
            back = mec.pull(name, targets=engine)[0]
        except (client.InvalidEngineID, client.NoEnginesRegistered):
            told = "refused"
        except client.CompositeError as problem:
            # Another process may have its id by now.
            expected = ("EngineDied", "NotStarted", "NotDefined")
            kinds = [type(each).__name__ for each in problem.exceptions]
            told = "died" if all(kind in expected for kind in kinds) else f"WRONG:{kinds}"
        else:
            same = hashlib.sha256(back).digest() == hashlib.sha256(data).digest()
            told = "ok" if same else "WRONG"
        self._book.write("done", notes.OBJECT, key, told)


if __name__ == "__main__":
    sys.exit(User(sys.argv[1], sys.argv[2], Path(sys.argv[3])).work())
