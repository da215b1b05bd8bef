"""Where engines are, and what an interrupt did: what the controller finds out, and where it does not wait."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SkipTest, SynchronousTestCase, TestCase

from ipython1.kernel.calls.resultlist import QueueStatusList
from ipython1.kernel.calls.stacklist import StackList, dumped_frames
from ipython1.kernel.controller.inspection import INTERRUPT_WAIT, STACKS_TIMEOUT
from ipython1.kernel.controller.multiengine import IMultiEngine
from ipython1.kernel.host.processstate import name_process
from ipython1.kernel.host.stackdump import stack_dump
from ipython1.testing import InMemoryCluster


class InspectionCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        self.client = self.cluster.async_multiengine()
        self.client.block = False
        self.multiengine = IMultiEngine(self.cluster.controller)

    def hold(self, engine_id: int, lines: str) -> None:
        """Have an engine be busy with ``lines``."""
        self.cluster.engines[engine_id].worker.held = True
        self.client.execute(lines, targets=engine_id)
        self.cluster.pump.run()

    def silence(self, engine_id: int) -> None:
        """Let nothing of what is sent to an engine arrive."""
        link: Any = self.cluster.controller.engines[engine_id].link
        link._transport.cut_off = True

    def result(self, source: Deferred[Any]) -> dict[int, dict[str, Any]]:
        rows = self.successResultOf(source)
        self.assertEqual(json.loads(json.dumps(rows)), [list(row) for row in rows])
        return dict(rows)


class StacksTests(InspectionCase):
    def test_idle(self) -> None:
        stacks = self.multiengine.stacks(None)
        self.cluster.pump.run()
        rows = self.result(stacks)
        self.assertEqual(
            [(i, row["state"], row["pending"]) for i, row in rows.items()],
            [(0, "idle", None), (1, "idle", None)],
        )

    def test_running(self) -> None:
        self.hold(1, "f()")
        stacks = self.multiengine.stacks([1])
        self.cluster.pump.run()
        row = self.result(stacks)[1]
        self.assertEqual((row["state"], row["pending"]), ("running", "execute('f()')"))
        self.assertGreater(row["seconds"], 0)
        self.assertEqual(row["command"][0], self.client._connection.end.origin.hex())
        self.assertIn("stack", row)

    def test_silent(self) -> None:
        """An engine that does not answer costs its time and no more; nothing is signalled that does not offer it."""
        self.hold(0, "spin()")
        self.silence(0)
        stacks = self.multiengine.stacks(None, 0.5)
        self.cluster.pump.run()
        self.assertNoResult(stacks)
        self.cluster.pump.advance(0.5)
        rows = self.result(stacks)
        self.assertEqual(rows[0], {"state": "silent", "pending": "execute('spin()')"})
        self.assertEqual(rows[1]["state"], "idle")

    def test_gone(self) -> None:
        self.silence(0)
        stacks = self.multiengine.stacks(None)
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        self.assertEqual(self.result(stacks)[0]["state"], "gone")

    def test_away(self) -> None:
        """An engine that may come back is not said to be gone, idle or interrupted."""
        self.hold(1, "f()")
        for engine in self.cluster.controller.engines.values():
            engine.go_away("a broken network")
        self.cluster.pump.advance(2.5)
        shown = self.result(self.multiengine.stacks(None))
        self.assertEqual(
            [(row["state"], row["away"]) for row in shown.values()], [("away", 2.5)] * 2
        )
        self.assertEqual(
            self.multiengine.queue_status([1]),
            [(1, {"pending": "execute('f()')", "queue": [], "away": 2.5})],
        )
        self.assertIn(
            "[1] away:    out of reach for 2.5 s\n[1] pending: execute",
            repr(QueueStatusList(self.multiengine.queue_status(None))),
        )
        interrupted = self.multiengine.interrupt(None)
        self.cluster.pump.advance(INTERRUPT_WAIT)
        rows = self.result(interrupted)
        self.assertEqual(
            [(row["ended"], row["state"]) for row in rows.values()], [(False, "away")] * 2
        )

    def test_stopped(self) -> None:
        """A process that is stopped is not said to be in C code, and gets no signal."""
        process = subprocess.Popen(
            [sys.executable, "-S", "-c", "open(0).read()"], stdin=subprocess.PIPE
        )
        self.addCleanup(process.communicate)
        self.addCleanup(process.send_signal, signal.SIGCONT)
        process.send_signal(signal.SIGSTOP)
        os.waitpid(process.pid, os.WUNTRACED)
        self.silence(0)
        self.cluster.controller.engines[0].process = name_process(process.pid)
        stacks = self.multiengine.stacks([0], 0.5)
        self.cluster.pump.advance(0.5)
        row = self.result(stacks)[0]
        self.assertEqual((row["state"], row["pid"]), ("stopped", process.pid))


class Tasks:
    """Stands for the tasks of an engine, of which one runs.

    :ivar obeys: whether that one ends when it is interrupted.
    """

    def __init__(self, obeys: bool) -> None:
        self.obeys = obeys
        self.running_key: tuple[int, int] | None = (7, 1)
        self.interrupted = 0

    def run_one(self) -> bool:
        return False  # it is busy with the one that runs

    def idle(self) -> None:
        pass

    def interrupt(self) -> bool:
        self.interrupted += 1
        if self.obeys:
            self.running_key = (8, 1)  # the next one is begun at once, and is not meant
        return True


class TaskTests(InspectionCase):
    """An engine that has no command may run a task."""

    def run_task(self, obeys: bool) -> Tasks:
        tasks = Tasks(obeys)
        worker: Any = self.cluster.engines[0].worker
        worker.source = tasks
        return tasks

    def test_stacks(self) -> None:
        self.run_task(True)
        stacks = self.multiengine.stacks([0])
        self.cluster.pump.run()
        row = self.result(stacks)[0]
        self.assertEqual((row["state"], row["pending"], row["task"]), ("running", None, [7, 1]))
        self.assertIn("[0] a task is running", repr(StackList.of([(0, row)])))

    def wait(self, seconds: float) -> None:
        for _ in range(round(seconds * 20)):
            self.cluster.pump.advance(0.05)
            self.cluster.pump.run()

    def test_it_is_interrupted(self) -> None:
        tasks = self.run_task(True)
        interrupted = self.multiengine.interrupt([0])
        self.cluster.pump.run()
        self.wait(0.3)
        self.assertEqual(self.result(interrupted)[0], {"pending": "a task", "ended": True})
        self.assertEqual(tasks.interrupted, 1)

    def test_it_does_not_end(self) -> None:
        tasks = self.run_task(False)
        interrupted = self.multiengine.interrupt([0])
        self.cluster.pump.run()
        self.wait(INTERRUPT_WAIT + 0.2)
        row = self.result(interrupted)[0]
        self.assertEqual((row["pending"], row["ended"], row["state"]), ("a task", False, "running"))
        self.assertEqual(tasks.interrupted, 1)


class InterruptTests(InspectionCase):
    def test_nothing_runs(self) -> None:
        interrupted = self.multiengine.interrupt(None)
        self.cluster.pump.run()
        self.assertEqual(
            self.result(interrupted), {i: {"pending": None, "ended": True} for i in (0, 1)}
        )

    def test_it_ends(self) -> None:
        """The answer comes as soon as the command has ended; what was queued behind it is left alone."""
        self.hold(0, "f()")
        self.client.execute("g()", targets=0)
        interrupted = self.multiengine.interrupt([0])
        self.cluster.pump.run()
        self.assertEqual(
            self.result(interrupted), {0: {"pending": "execute('f()')", "ended": True}}
        )
        self.assertEqual(
            self.multiengine.queue_status([0]), [(0, {"pending": "execute('g()')", "queue": []})]
        )

    def test_its_engine_dies(self) -> None:
        self.hold(0, "f()")
        interrupted = self.multiengine.interrupt([0])
        self.cluster.engines[0].kill()
        self.cluster.pump.run()
        self.assertTrue(self.result(interrupted)[0]["ended"])

    def test_it_does_not_end(self) -> None:
        """After a while that is said, with where the engine is; the others are told of too."""
        self.hold(0, "f()")
        self.hold(1, "g()")
        self.silence(1)
        interrupted = self.multiengine.interrupt(None)
        self.cluster.pump.run()
        self.assertNoResult(interrupted)
        self.cluster.pump.advance(INTERRUPT_WAIT)
        self.cluster.pump.run()
        self.cluster.pump.advance(STACKS_TIMEOUT / 2)
        rows = self.result(interrupted)
        self.assertEqual(rows[0], {"pending": "execute('f()')", "ended": True})
        self.assertEqual((rows[1]["ended"], rows[1]["state"]), (False, "silent"))

    def test_only_the_running_command_is_named(self) -> None:
        """The frame names it, so that a command that comes in the meantime is left alone."""
        self.hold(0, "f()")
        engine: Any = self.cluster.controller.engines[0]
        sent: list[tuple[Any, ...]] = []
        self.patch(engine.link, "send", lambda *frame: sent.append(frame))
        self.multiengine.interrupt([0])
        self.assertEqual(sent[0][1:3], (engine.running_key[1], engine.running_key[0]))


STUCK = """
import ctypes, sys
from ipython1.kernel.host.stackdump import offer_stack_dump
offer_stack_dump()
names = {}
exec(compile(
    "def engineworker_run(lock):\\n"
    "    print('locked', flush=True)\\n"
    "    lock(mutex)\\n"
    "    lock(mutex)\\n", "/x/ipython1/kernel/engine/worker.py", "exec"), names)
names["mutex"] = ctypes.create_string_buffer(64)
names["engineworker_run"](ctypes.PyDLL(None).pthread_mutex_lock)
"""


class StackDumpTests(TestCase):
    """A process whose interpreter answers nobody still tells its stacks, and lives on."""

    def start(self, source: str) -> subprocess.Popen[str]:
        if not sys.platform.startswith("linux"):
            raise SkipTest("this works by way of /proc")
        environ = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        process = subprocess.Popen(
            [sys.executable, "-c", source], env=environ, stdout=subprocess.PIPE, text=True
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        self.addCleanup(process.stdout.close)
        process.stdout.readline()
        return process

    async def test_while_c_code_holds_the_interpreter(self) -> None:
        from twisted.internet import reactor

        process = self.start(STUCK)
        for _ in range(2):
            text = await stack_dump(process.pid, reactor)  # type: ignore[arg-type]
            self.assertIn("engineworker_run", text)
            self.assertEqual(text.count("most recent call first"), 1)
        self.assertIsNone(process.poll())

    async def test_a_process_that_offers_nothing_is_left_alone(self) -> None:
        from twisted.internet import reactor

        process = self.start("print('here', flush=True); import time; time.sleep(60)")
        self.assertEqual(await stack_dump(process.pid, reactor), "")  # type: ignore[arg-type]
        self.assertIsNone(process.poll())
        process.kill()
        process.wait()
        self.assertEqual(await stack_dump(process.pid, reactor), "")  # type: ignore[arg-type]


class DumpedFramesTests(SynchronousTestCase):
    DUMP = """Thread 0x00007f01 (most recent call first):
  File "/lib/python3.11/site-packages/twisted/internet/base.py", line 1 in run
  File "/lib/ipython1/kernel/engine/process.py", line 150 in in_reactor_thread

Current thread 0x00007f02 (most recent call first):
  File "/home/user/sim.py", line 7 in step
  File "<ipython-input-4-ab12>", line 3 in hang
  File "<ipython-input-5-ab12>", line 1 in <module>
  File "/lib/ipython1/core/interpreter.py", line 300 in _run_plan
  File "/lib/ipython1/kernel/engine/worker.py", line 390 in _run
  File "/bin/ipengine", line 8 in <module>
"""

    def test_user_frames_of_the_right_thread(self) -> None:
        self.assertEqual(
            dumped_frames(self.DUMP),
            [
                "Cell In[5], line 1, in <module>",
                "Cell In[4], line 3, in hang",
                "File /home/user/sim.py, line 7, in step",
            ],
        )

    def test_nothing_to_find(self) -> None:
        for text in ("", "garbage", self.DUMP.split("\n\n")[0]):
            self.assertEqual(dumped_frames(text), [])
