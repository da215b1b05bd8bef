"""What people read of stacks, interrupts and time-outs."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls.stacklist import InterruptList, NotFinished, StackList, place_of

DUMP = """Current thread 0x00007f02 (most recent call first):
  File "<ipython-input-4-ab12>", line 3 in hang
  File "/lib/ipython1/core/interpreter.py", line 300 in _run_plan
  File "/lib/ipython1/kernel/engine/worker.py", line 390 in _run
"""

STACK = """Cell In[7], line 4
      3 comm = MPI.COMM_WORLD
----> 4 sync(comm)

Cell In[5], line 2, in sync(comm)
      1 def sync(comm):
----> 2     comm.Barrier()"""

DEEPER = (
    STACK
    + """

File ~/lib/python3.11/threading.py:331, in wait(self, timeout)
    330 if timeout > 0:
--> 331     gotit = waiter.acquire(True, timeout)"""
)


def running(stack: str = STACK, **more: Any) -> dict[str, Any]:
    return {
        "state": "running",
        "pending": "execute('sync(comm)')",
        "seconds": 12.34,
        "stack": stack,
        **more,
    }


SILENT = {"state": "silent", "pending": "execute('hang()')", "dump": DUMP}
IDLE: dict[str, Any] = {"state": "idle", "pending": None}


class PlaceTests(SynchronousTestCase):
    def test_the_users_line(self) -> None:
        self.assertEqual(place_of(running()), "comm.Barrier()  (line 2, in sync(comm))")

    def test_inside_of_a_library(self) -> None:
        self.assertEqual(
            place_of(running(DEEPER)),
            "comm.Barrier()  (line 2, in sync(comm)), inside wait of threading.py, line 331",
        )

    def test_files_only(self) -> None:
        self.assertEqual(
            place_of(running("File ~/sim.py:7, in step(n)\n----> 7     x += 1")),
            "x += 1  (File ~/sim.py:7, in step(n))",
        )

    def test_without_stack(self) -> None:
        self.assertEqual(place_of(running("")), "")

    def test_silent(self) -> None:
        self.assertEqual(place_of(SILENT), "line 3, in hang, in C code that holds its interpreter")
        self.assertEqual(
            place_of({"state": "silent", "pending": None}), "in C code that holds its interpreter"
        )


class StackListTests(SynchronousTestCase):
    def test_shown(self) -> None:
        stacks = StackList.of(
            [
                [0, IDLE],
                [1, running()],
                [2, SILENT],
                [3, {"state": "gone", "pending": None}],
                [4, {"state": "away", "pending": None, "away": 2.5}],
                [5, {"state": "stopped", "pending": "execute('f()')", "pid": 12}],
            ]
        )
        self.assertEqual(
            repr(stacks),
            "<Stacks>\n"
            "[0] idle\n"
            "[1] execute('sync(comm)') has been running for 12.3 s\n"
            "    Cell In[7], line 4\n"
            "          3 comm = MPI.COMM_WORLD\n"
            "    ----> 4 sync(comm)\n"
            "\n"
            "    Cell In[5], line 2, in sync(comm)\n"
            "          1 def sync(comm):\n"
            "    ----> 2     comm.Barrier()\n"
            "[2] execute('hang()') does not respond: its interpreter is held by C code, which cannot be interrupted\n"
            "    Cell In[4], line 3, in hang\n"
            "[3] gone\n"
            "[4] away, out of reach for 2.5 s; the controller waits for it\n"
            "[5] its process is stopped (continue it with: kill -CONT 12)",
        )
        html = stacks._repr_html_()
        self.assertIn("----&gt; 2     comm.Barrier()", html)

    def test_about_to_run(self) -> None:
        self.assertIn(
            "about to run push(a)",
            repr(StackList.of([[0, {"state": "idle", "pending": "push(a)"}]])),
        )


class InterruptListTests(SynchronousTestCase):
    def test_shown(self) -> None:
        rows = [
            [0, {"pending": None, "ended": True}],
            [1, {"pending": "execute('f()')", "ended": True}],
            [2, {**SILENT, "ended": False}],
            [3, {**running("Cell In[1], line 1\n----> 1 loop()"), "ended": False}],
            [4, {"state": "away", "pending": None, "away": 2.5, "ended": False}],
            [5, {"state": "stopped", "pending": "execute('f()')", "pid": 12, "ended": False}],
        ]
        self.assertEqual(
            repr(InterruptList.of(rows)),
            "<Interrupt>\n"
            "[0] nothing was running\n"
            "[1] execute('f()') was interrupted\n"
            "[2] execute('hang()') did not end: its interpreter is held by C code, which cannot be interrupted\n"
            "    Cell In[4], line 3, in hang\n"
            "    mec.kill(targets=2) ends the engine; its namespace is lost\n"
            "[3] execute('sync(comm)') did not end: it caught the interrupt, or is waiting in C code\n"
            "    Cell In[1], line 1\n"
            "    ----> 1 loop()\n"
            "    mec.kill(targets=3) ends the engine; its namespace is lost\n"
            "[4] it did not answer: away, out of reach for 2.5 s; the controller waits for it\n"
            "    mec.kill(targets=4) ends the engine; its namespace is lost\n"
            "[5] execute('f()') did not end: its process is stopped (continue it with: kill -CONT 12)\n"
            "    mec.kill(targets=5) ends the engine; its namespace is lost",
        )
        self.assertIn("nothing was running", InterruptList.of(rows)._repr_html_())


class Pending:
    """A call to five engines of which two are done."""

    name = "execute"
    engine_ids = [0, 1, 2, 3, 4]

    @staticmethod
    def failures() -> dict[int, BaseException]:
        return {3: ZeroDivisionError("division by zero")}


class NotFinishedTests(SynchronousTestCase):
    def test_report(self) -> None:
        """Who failed comes first, then who waits where, engines with the same to tell on one line."""
        stacks = StackList.of([[0, running()], [1, running()], [2, running("", other=True)]])
        report = NotFinished(Pending(), 5.0, stacks)  # type: ignore[arg-type]
        self.assertEqual(
            str(report),
            "execute did not finish within 5 s; it is still running\n"
            "[3] failed: ZeroDivisionError: division by zero\n"
            "[0-1] still running: comm.Barrier()  (line 2, in sync(comm))\n"
            "[2] waiting for execute('sync(comm)') to finish\n"
            "[4] done",
        )
        self.assertEqual((report.done, report.unfinished), ([4], [0, 1, 2]))
        self.assertIsInstance(report, TimeoutError)
