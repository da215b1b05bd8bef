"""What signal handlers of the user's raise while the client works: it is the user's, and no result is lost."""

from __future__ import annotations

import functools
import pickle
import signal
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.interrupt import raised_by_handler
from ipython1.kernel.basics.error import ResultNotCompleted, SerializationError
from ipython1.kernel.calls import pendingresult, requests, twistedutil
from ipython1.kernel.calls.attendance import attend
from ipython1.kernel.calls.pendingresult import PendingResult
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.tasks.methods import read_value
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.messages import Outcome
from ipython1.kernel.wire.named import pack_named
from ipython1.testing import InMemoryCluster


class Late(Exception):
    """Raised by the handlers here."""


def late(signum: int, frame: object) -> None:
    raise Late


def strike() -> None:
    """Have the handler run now, once; without one, nothing happens."""
    if signal.getsignal(signal.SIGALRM) is not signal.SIG_IGN:
        signal.raise_signal(signal.SIGALRM)


class Slow:
    """Rebuilding it, or pickling it, takes until the alarm comes.

    :ivar when: in which of both.
    """

    def __init__(self, when: str = "rebuild") -> None:
        self.when = when

    def __getstate__(self) -> dict[str, Any]:
        if self.when == "pickle":
            strike()
        return self.__dict__

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        strike()


class SignalCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.addCleanup(signal.signal, signal.SIGALRM, signal.getsignal(signal.SIGALRM))
        self.ignore()

    def ignore(self) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_IGN)

    def alarm(self, handler: Any = late) -> None:
        signal.signal(signal.SIGALRM, handler)


class OriginTest(SignalCase):
    """What a handler raised is told from what the code raised that it struck."""

    def raised_after(self, handler: Any) -> bool:
        self.alarm(handler)
        try:
            strike()
        except Late as problem:
            return raised_by_handler(problem)
        raise AssertionError("nothing was raised")

    def test_handlers_of_all_forms(self) -> None:
        class Own:
            def method(self, signum: int, frame: object) -> None:
                raise Late

            def __call__(self, *args: object) -> None:
                late(1, None)

        def restores(*args: object) -> None:
            self.ignore()
            raise Late

        def forgets(signum: int, frame: object) -> None:
            del frame
            raise Late

        for handler in (
            late,
            Own().method,
            Own(),
            restores,
            forgets,
            functools.partial(Own().method),
            functools.partial(lambda more, signum, frame: late(signum, frame), 1),
        ):
            self.assertTrue(self.raised_after(handler), handler)

    def test_what_others_raise(self) -> None:
        self.alarm()
        for number in (5, signal.SIGALRM):
            problem = self.assertRaises(Late, self._raises, number)
            self.assertFalse(raised_by_handler(problem))
        self.assertFalse(raised_by_handler(Late()))

    def _raises(self, number: int) -> None:
        raise Late


class PickleTest(SignalCase):
    def test_it_is_no_error_of_the_object(self) -> None:
        value = Slow("pickle")
        packed = dumps([Slow()])
        self.alarm()
        self.assertRaises(Late, dumps, value)
        self.assertRaises(Late, dumps, {"a": [value]})
        self.assertRaises(Late, loads, packed)

    def test_it_comes_while_the_reason_of_an_error_is_sought(self) -> None:
        self.alarm()
        self.assertRaises(Late, dumps, [Slow("pickle"), Slow("pickle"), (i for i in "abc")])

    def test_errors_of_the_object_are_errors(self) -> None:
        self.alarm()
        self.assertRaises(SerializationError, dumps, (i for i in "abc"))
        self.assertRaises(SerializationError, loads, [b"rubbish"])


class ResultTest(SignalCase):
    def test_the_result_is_decoded_again(self) -> None:
        request = requests.pull("a")
        pending = PendingResult(request.finish, "pull")
        answer = [Outcome(0, messages.OK, pack_named({"a": dumps(Slow())}))]
        pending.set_result(answer)
        called: list[Any] = []
        self.alarm()
        for read in (pending.get_result, pending.exception, lambda: pending.r):
            self.assertRaises(Late, read)
        self.assertRaises(Late, pending._decode, answer)
        self.ignore()
        self.assertIsInstance(pending.get_result()[0], Slow)
        pending.add_callback(called.append)
        self.assertEqual(called, [pending.r])

    def test_what_the_object_raises_stays_the_error(self) -> None:
        rebuilt: list[int] = []

        def finish(raw: object) -> None:
            rebuilt.append(1)
            raise TimeoutError("its own")

        pending = PendingResult(finish, "pull")
        pending.set_result([])
        self.alarm()
        for _ in range(2):
            self.assertIn("its own", str(self.assertRaises(TimeoutError, pending.get_result)))
        self.assertEqual(len(rebuilt), 1)

    def test_the_asynchronous_client_reads_again(self) -> None:
        cluster = InMemoryCluster(1)
        mec = cluster.async_multiengine()
        mec.execute("from ipython1.kernel.calls.tests.test_signals import Slow; a = Slow()")
        called = mec.pull("a", block=False)
        cluster.pump.run()
        pending = self.successResultOf(called)
        self.alarm()
        self.failureResultOf(pending.get_result(), Late)
        self.ignore()
        self.assertIsInstance(self.successResultOf(pending.get_result())[0], Slow)

    def test_results_of_tasks(self) -> None:
        payload = pickle.dumps(Slow(), 5)
        self.alarm()
        self.assertRaises(Late, read_value, 0, payload, 0, None)
        self.ignore()
        self.assertIsInstance(read_value(0, payload, 0, None).result, Slow)


class WaitTest(SignalCase):
    """``TimeoutError`` is what alarms usually raise, and what waits here raise themselves."""

    def setUp(self) -> None:
        super().setUp()

        def out_of_time(signum: int, frame: object) -> None:
            raise TimeoutError("the user's")

        self.alarm(out_of_time)
        # This is the main thread, where handlers run, and may be where trial runs the reactor; nothing waits for that.
        self.patch(pendingresult, "refuse_in_reactor_thread", lambda: None)
        self.pending = PendingResult(lambda raw: raw, "execute")

    def _struck(self, function: Any, *args: Any, **kwargs: Any) -> None:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        self.addCleanup(signal.setitimer, signal.ITIMER_REAL, 0)
        problem = self.assertRaises(TimeoutError, function, *args, **kwargs)
        self.assertEqual((type(problem), str(problem)), (TimeoutError, "the user's"))

    def test_it_ends_every_wait_as_it_is(self) -> None:
        self._struck(self.pending.get_result)
        self._struck(self.pending.get_result, timeout=60)
        self._struck(self.pending.wait_interactive)

    def test_it_ends_the_wait_of_a_person(self) -> None:
        from ipython1.kernel.calls import attendance

        self.patch(attendance, "person_waits", lambda: True)
        self._struck(attend, self.pending, None)

    def test_it_ends_the_wait_for_an_answer(self) -> None:
        from twisted.internet.defer import Deferred

        def never() -> Deferred[None]:
            return Deferred()

        self._struck(twistedutil._wait_for, lambda call: call(), never, None)

    def test_limits_are_what_they_were(self) -> None:
        self.assertRaises(ResultNotCompleted, self.pending.get_result, timeout=0)
        self.assertFalse(self.pending.wait_interactive(timeout=0))
