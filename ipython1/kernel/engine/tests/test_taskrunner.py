"""Running tasks in an engine: sizes that the wire has no room for."""

from __future__ import annotations

import pickle
import signal
from typing import Any

from twisted.trial import unittest

from ipython1.core.userhandlers import UserHandlers
from ipython1.kernel.basics.error import MessageSizeError, NotDefined
from ipython1.kernel.engine.service import EngineService
from ipython1.kernel.engine.taskrunner import TaskRunner
from ipython1.kernel.objects import taskcodec
from ipython1.kernel.objects.taskcodec import Kind, pack_task, unpack_result, unpack_task
from ipython1.kernel.objects.taskobjects import StringTask
from ipython1.kernel.tasks.encoder import TaskEncoder
from ipython1.kernel.wire.taskwire import Status
from ipython1.testing.cluster import PlainInterpreter


class SizeTests(unittest.SynchronousTestCase):
    def test_a_result_over_the_limit_fails_with_a_clear_error(self) -> None:
        """The controller is not asked to hold it, and the next task runs."""
        runner = TaskRunner(EngineService(PlainInterpreter()))  # type: ignore[arg-type]
        runner.most_bytes = 1000
        source = b"a = b'x' * 2000; b = 3"
        task = pack_task(Kind.SOURCE, 0, source, b"a")
        status, data, _ = runner.run(task, lambda: False)
        self.assertIs(status, Status.FAILED)
        failure = unpack_result(data).failure
        self.assertIsInstance(failure, MessageSizeError)
        self.assertIn("max_message_size", str(failure))
        status, data, _ = runner.run(pack_task(Kind.SOURCE, 0, source, b"b"), lambda: False)
        self.assertIs(status, Status.OK)
        self.assertEqual(unpack_result(data).result, {"b": 3})

    def test_a_task_too_large_for_the_wire(self) -> None:
        """It is refused by name, where a number would not fit into its field."""
        self.patch(taskcodec, "MOST_BYTES", 1000)
        with self.assertRaises(MessageSizeError):
            pack_task(Kind.CALL, 0, b"digest", pickle.dumps(b"x" * 2000))


class BeforeUserCodeTests(unittest.SynchronousTestCase):
    """What was given away before is copied before a task can change it."""

    def setUp(self) -> None:
        self.interpreter = PlainInterpreter()
        self.service = EngineService(self.interpreter)  # type: ignore[arg-type]
        self.runner = TaskRunner(self.service)
        self.task = pack_task(Kind.SOURCE, 0, b"a = 2", b"a")

    def test_it_is_called_before_a_task_and_before_a_dependency(self) -> None:
        seen: list[object] = []
        self.service.before_user_code = lambda: seen.append(self.interpreter.user_ns.get("a"))
        self.runner.run(self.task, lambda: False)
        self.runner.depends(b"unknown")
        self.assertEqual(seen, [None, 2])

    def test_a_task_does_not_run_if_that_fails(self) -> None:
        def fail() -> None:
            raise MemoryError("no room")

        self.service.before_user_code = fail
        status, data, _ = self.runner.run(self.task, lambda: False)
        self.assertIs(status, Status.FAILED)
        self.assertIn("no room", str(unpack_result(data).failure))
        self.assertNotIn("a", self.interpreter.user_ns)


def strike(number: int, frame: object) -> None:
    raise TimeoutError("the timer")


strike.__module__ = "__main__"


class Struck(Exception):
    """A signal comes while it is recorded."""

    def __reduce__(self) -> Any:
        signal.raise_signal(signal.SIGUSR2)
        return super().__reduce__()


def fail() -> None:
    raise Struck("mine")


class HandlersTests(unittest.SynchronousTestCase):
    def test_a_failure_is_recorded_whatever_signal_comes_meanwhile(self) -> None:
        """The client gets the exception of the task, and the handler runs when user code does again."""
        if not hasattr(signal, "SIGUSR2"):
            raise unittest.SkipTest("this system has no SIGUSR2")
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.signal(signal.SIGUSR2, strike))
        handlers = UserHandlers()
        self.addCleanup(handlers.put_aside)
        service = EngineService(PlainInterpreter())  # type: ignore[arg-type]
        runner = TaskRunner(service, None, handlers.put_aside)
        service.before_user_code = fail
        handlers.begins()
        status, data, _ = runner.run(pack_task(Kind.SOURCE, 0, b"a = 2", b"a"), lambda: False)
        self.assertIs(status, Status.FAILED)
        failure = unpack_result(data).failure
        self.assertIs(type(failure), Struck, repr(failure))
        with self.assertRaisesRegex(TimeoutError, "the timer"):
            handlers.begins()


class Prepared(StringTask):
    """A type of one's own that still runs code."""

    def pre_task(self, engine: Any) -> None:
        super().pre_task(engine)
        engine.push({"z": 5})


class SourceTests(unittest.SynchronousTestCase):
    def test_types_of_ones_own_run_code_as_plain_tasks_do(self) -> None:
        """The output is the task's, the results have their names, and no command is counted."""
        interpreter = PlainInterpreter()
        runner = TaskRunner(EngineService(interpreter))  # type: ignore[arg-type]
        seen = []
        for task in (
            StringTask("print(1); b = z", "b", {"z": 5}),
            Prepared("print(1); b = z", "b"),
        ):
            status, data, _ = runner.run(TaskEncoder().encode(task).payload, lambda: False)
            value = unpack_result(data)
            self.assertIs(status, Status.OK, value.failure)
            seen.append((value.result, value.named, value.stdout))
        self.assertEqual(seen, [({"b": 5}, True, "1\n")] * 2)
        self.assertRaises(IndexError, interpreter.get_result)

    def test_a_name_that_is_missing(self) -> None:
        """It costs the results, but not the output, and shows none of the engine's own frames."""
        runner = TaskRunner(EngineService(PlainInterpreter()))  # type: ignore[arg-type]
        for task in (StringTask("print(1)", "nothing"), Prepared("print(1)", "nothing")):
            status, data, _ = runner.run(TaskEncoder().encode(task).payload, lambda: False)
            value = unpack_result(data)
            self.assertIs(status, Status.FAILED)
            self.assertEqual(value.stdout, "1\n")
            self.assertIsInstance(value.failure, NotDefined)
            [text] = value.failure.__notes__  # type: ignore[union-attr]
            self.assertNotIn("taskobjects.py", text)
            self.assertNotIn("worker.py", text)

    def test_code_with_characters_that_utf8_cannot_encode(self) -> None:
        """It travels, and fails where it is compiled."""
        payload = TaskEncoder().encode(StringTask("x = '\ud800'")).payload
        self.assertEqual(unpack_task(payload).body.decode(errors="surrogatepass"), "x = '\ud800'")
