"""Exceptions on their way from an engine to a client."""

from __future__ import annotations

import copyreg
import pickle
import signal
import socket
import subprocess
import sys
import threading

import numpy
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.core import failures
from ipython1.core.failures import ExceptionRecord, rebuild_exception, record_exception
from ipython1.core.tests.support import SessionCase
from ipython1.core.texts import MAX_MESSAGE
from ipython1.core.tracebacks import MAX_TEXT
from ipython1.core.userhandlers import UserHandlers


class NeedsTwo(Exception):
    """Its ``__init__`` requires more arguments than pickling passes."""

    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} at {where}")
        self.code = code
        self.where = where


class Rewrites(Exception):
    """Pickles without an error, and comes back with another message."""

    def __init__(self, what: object = "nothing") -> None:
        super().__init__(f"got {what}")


class OwnFile(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(2, "gone", path)
        self.extra = "kept"


class KeepsLock(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.lock = threading.Lock()


class OwnGroup(ExceptionGroup):
    """Its ``__new__`` requires more arguments than those of its base class."""

    def __new__(cls, message: str, exceptions: list[Exception], code: int) -> OwnGroup:
        self = super().__new__(cls, message, exceptions)
        self.code = code
        return self

    def derive(self, excs: list[Exception]) -> OwnGroup:
        return OwnGroup(self.message, excs, self.code)


class StrFails(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


class ReprFails(Exception):
    def __repr__(self) -> str:
        raise SystemExit

    __str__ = __repr__


class ReduceFails(Exception):
    def __reduce__(self) -> str:
        raise RuntimeError("no pickle")


class Struck:
    """What a timer of user code raises comes while this is pickled, in either way."""

    strikes = 2

    def __reduce__(self):
        if Struck.strikes:
            Struck.strikes -= 1
            raise LookupError("the timer")
        return Struck, ()


class ReduceExits(Exception):
    def __reduce__(self) -> str:
        raise SystemExit(3)


class BecomesSomethingElse(Exception):
    def __reduce__(self) -> object:
        return int, ("5",)


def _fail_loading() -> None:
    raise RuntimeError("not here")


class LoadingFails(Exception):
    def __reduce__(self) -> object:
        return _fail_loading, ()


class EverythingFails(Exception):
    def __getattribute__(self, name: str) -> object:
        raise KeyError(name)


class HostileMeta(type):
    @property
    def __name__(cls) -> str:  # type: ignore[override]
        raise RuntimeError("nameless")


class Nameless(Exception, metaclass=HostileMeta):
    __test__ = False  # otherwise nose would ask for its name


class WithSlots(Exception):
    __slots__ = ("extra",)


def record_raised(exc: BaseException, cause: BaseException | None = None) -> ExceptionRecord:
    try:
        if cause is not None:
            raise exc from cause
        raise exc
    except BaseException as caught:
        return record_exception(caught)


class HandlersTests(SessionCase):
    def test_no_signal_handler_of_the_users_runs_while_a_failure_is_recorded(self) -> None:
        if not hasattr(signal, "SIGUSR2"):
            raise SkipTest("this system has no SIGUSR2")
        self.addCleanup(signal.signal, signal.SIGUSR2, signal.getsignal(signal.SIGUSR2))
        handlers = UserHandlers()
        self.addCleanup(handlers.put_aside)
        self.session.user_code_ended = handlers.put_aside
        handlers.begins()
        source = (
            "import signal\n"
            "struck = []\n"
            "signal.signal(signal.SIGUSR2, lambda number, frame: struck.append(number))\n"
            "class Struck(Exception):\n"
            "    def __str__(self):\n"
            "        signal.raise_signal(signal.SIGUSR2)\n"
            "        return 'mine'\n"
            "raise Struck"
        )
        for run in (self.session.execute, self.run_source):
            failure = run(source).failure
            assert failure is not None
            self.assertEqual(failure.evalue, "mine")
            self.assertEqual(self.session.user_ns["struck"], [])
            handlers.begins()
            self.assertEqual(self.session.user_ns["struck"], [signal.SIGUSR2])


class RebuildingTests(SynchronousTestCase):
    def rebuilt(self, exc: BaseException) -> BaseException:
        record = pickle.loads(pickle.dumps(record_raised(exc)))
        again = rebuild_exception(record)
        if again is None:
            self.fail(f"{exc!r} was not rebuilt")
        self.assertIs(type(again), type(exc))
        self.assertEqual(str(again), str(exc))
        self.assertEqual(again.args, exc.args)
        self.assertEqual(again.__notes__[-1], record.traceback)
        self.assertIsNone(again.__traceback__)
        return again

    def test_of_the_language(self) -> None:
        for exc in (
            ZeroDivisionError("division by zero"),
            KeyError("k"),
            ValueError(),
            ValueError(1, "two", None),
            SystemExit(3),
            KeyboardInterrupt(),
            UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"),
            StopIteration(4),
            SyntaxError("wrong", ("f.py", 1, 2, "a = = 1", 1, 3)),
        ):
            self.rebuilt(exc)
        self.assertEqual(self.rebuilt(FileNotFoundError(2, "gone", "/x")).filename, "/x")
        self.assertEqual(self.rebuilt(ImportError("no", name="m", path="p")).name, "m")
        self.assertEqual(self.rebuilt(StopIteration(4)).value, 4)

    def test_of_libraries(self) -> None:
        self.rebuilt(socket.gaierror(-2, "Name or service not known"))
        error = self.rebuilt(subprocess.CalledProcessError(3, ["false"], output=b"out"))
        self.assertEqual((error.returncode, error.output), (3, b"out"))
        self.rebuilt(numpy.linalg.LinAlgError("Singular matrix"))

    def test_needing_arguments(self) -> None:
        error = self.rebuilt(NeedsTwo(7, "home"))
        self.assertEqual((error.code, error.where), (7, "home"))

    def test_initialised_once(self) -> None:
        self.rebuilt(Rewrites(5))

    def test_data_outside_the_dict(self) -> None:
        error = self.rebuilt(OwnFile("/x"))
        self.assertEqual((error.errno, error.filename, error.extra), (2, "/x", "kept"))

    def test_arguments_that_compare_oddly(self) -> None:
        record = record_raised(ValueError(numpy.arange(3), float("nan"), object))
        again = rebuild_exception(record)
        self.assertIsInstance(again, ValueError)
        self.assertEqual(list(again.args[0]), [0, 1, 2])

    def test_notes(self) -> None:
        error = ValueError("x")
        error.add_note("remember")
        record = record_raised(error)
        self.assertTrue(record.traceback.endswith("ValueError: x\nremember"))
        self.assertEqual(rebuild_exception(record).__notes__, ["remember", record.traceback])

    def test_causes(self) -> None:
        again = rebuild_exception(record_raised(NeedsTwo(1, "a"), cause=KeyError("inner")))
        self.assertIsInstance(again.__cause__, KeyError)
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise NeedsTwo(2, "b")  # noqa: B904
        except NeedsTwo as caught:
            again = rebuild_exception(record_exception(caught))
        self.assertIsInstance(again.__context__, KeyError)
        self.assertFalse(again.__suppress_context__)
        try:
            try:
                raise KeyError("first")
            except KeyError:
                raise ValueError("second") from None
        except ValueError as caught:
            again = rebuild_exception(record_exception(caught))
        self.assertTrue(again.__suppress_context__)

    def test_a_cause_that_cannot_travel_costs_only_itself(self) -> None:
        record = record_raised(ValueError("outer"), cause=ValueError(threading.Lock()))
        again = rebuild_exception(record)
        self.assertEqual(str(again), "outer")
        self.assertIsNone(again.__cause__)

    def test_struck_by_a_timer(self) -> None:
        rebuilt = rebuild_exception(record_exception(KeyError(Struck())))
        self.assertIs(type(rebuilt), KeyError)

    def test_registered_reducers_are_not_needed_in_the_client(self) -> None:
        """tblib registers a function of its own for every exception class, and the client may not have it."""

        def reduce(exc: BaseException) -> object:
            return _fail_loading, ()

        for cls in (ValueError, NeedsTwo, OwnFile, ExceptionGroup):
            copyreg.pickle(cls, reduce)
            self.addCleanup(copyreg.dispatch_table.pop, cls)
        self.rebuilt(ValueError("x"))
        self.rebuilt(ValueError([1]))
        self.rebuilt(NeedsTwo(7, "home"))
        self.rebuilt(OwnFile("/x"))
        again = rebuild_exception(record_raised(ExceptionGroup("both", [NeedsTwo(1, "a")])))
        self.assertIs(type(again.exceptions[0]), NeedsTwo)

    def test_a_registered_reducer_is_used_where_it_is_needed(self) -> None:
        copyreg.pickle(KeepsLock, lambda exc: (KeepsLock, (exc.args[0],)))
        self.addCleanup(copyreg.dispatch_table.pop, KeepsLock)
        self.assertEqual(self.rebuilt(KeepsLock("x")).args, ("x",))


class GroupTests(SynchronousTestCase):
    def rebuilt(self, group: BaseException) -> BaseException:
        record = pickle.loads(pickle.dumps(record_raised(group)))
        again = rebuild_exception(record, LookupError)
        if again is None:
            self.fail(f"{group!r} was not rebuilt")
        self.assertEqual(again.__notes__[-1], record.traceback)
        return again

    def test_members_keep_their_types(self) -> None:
        group = ExceptionGroup(
            "both",
            [
                ValueError(1),
                ExceptionGroup("inner", [NeedsTwo(2, "c"), OwnFile("/x")]),
            ],
        )
        again = self.rebuilt(group)
        self.assertIs(type(again), ExceptionGroup)
        self.assertEqual(str(again), "both (2 sub-exceptions)")
        found = []
        try:
            raise again
        except* NeedsTwo as some:
            found += [(each.code, each.where) for each in some.exceptions[0].exceptions]
        except* OSError as some:
            found += [each.filename for each in some.exceptions[0].exceptions]
        except* ValueError as some:
            found += some.exceptions[0].args
        self.assertCountEqual(found, [(2, "c"), "/x", 1])

    def test_a_member_that_cannot_travel_is_replaced(self) -> None:
        again = self.rebuilt(
            ExceptionGroup("some", [NeedsTwo(1, "a"), ValueError(threading.Lock()), KeyError("k")])
        )
        self.assertEqual(
            [type(each) for each in again.exceptions], [NeedsTwo, LookupError, KeyError]
        )
        self.assertTrue(str(again.exceptions[1]).startswith("ValueError: <unlocked"))

    def test_a_class_that_is_not_there_in_the_client(self) -> None:
        member, group = ValueError("x"), ExceptionGroup("some", [KeyError("k")])
        parts = (member, group)
        record = record_raised(ExceptionGroup("all", parts))
        for name in (b"ValueError", b"ExceptionGroup"):
            gone = ExceptionRecord("E", "e", "text", record.pickled.replace(name, name[:-1] + b"?"))
            again = rebuild_exception(gone, LookupError)
            if name == b"ValueError":
                self.assertEqual([type(e) for e in again.exceptions], [LookupError, ExceptionGroup])
                self.assertEqual(str(again.exceptions[0]), "ValueErro?: x")
            else:
                self.assertEqual([type(e) for e in again.exceptions], [ValueError, ExceptionGroup])
                self.assertEqual(str(again), "ExceptionGrou?: all (2 sub-exceptions)")

    def test_their_own_classes(self) -> None:
        again = self.rebuilt(OwnGroup("mine", [KeyError("k")], 404))
        self.assertIs(type(again), OwnGroup)
        self.assertEqual((again.message, again.code, len(again.exceptions)), ("mine", 404, 1))
        part = again.subgroup(KeyError)
        self.assertIs(type(part), OwnGroup)

    def test_not_only_exceptions(self) -> None:
        again = self.rebuilt(BaseExceptionGroup("stop", [KeyboardInterrupt(), SystemExit(3)]))
        self.assertIs(type(again), BaseExceptionGroup)
        self.assertEqual(again.exceptions[1].code, 3)

    def test_notes_and_causes_of_members(self) -> None:
        member = NeedsTwo(1, "a")
        member.add_note("remember")
        member.__cause__ = ExceptionGroup("reasons", [KeyError("inner")])
        [again] = self.rebuilt(ExceptionGroup("one", [member])).exceptions
        self.assertEqual(again.__notes__, ["remember"])
        self.assertIs(type(again.__cause__.exceptions[0]), KeyError)

    def test_cycles_and_size(self) -> None:
        one, two = ValueError("one"), ValueError("two")
        group = ExceptionGroup("both", [one, two])
        one.__cause__ = two.__cause__ = group
        again = self.rebuilt(group)
        self.assertEqual([each.args for each in again.exceptions], [("one",), ("two",)])
        many = ExceptionGroup("many", [NeedsTwo(n, "x" * 2000) for n in range(1000)])
        record = record_raised(many)
        self.assertLess(len(record.pickled), 1.1 * failures.MAX_PICKLE)
        again = rebuild_exception(record)
        self.assertIs(type(again.exceptions[0]), NeedsTwo)
        self.assertIn("more exceptions", str(again.exceptions[-1]))


class HostileTests(SynchronousTestCase):
    """An exception's methods cannot harm the engine, whatever they do."""

    def test_all_are_recorded(self) -> None:
        for exc, ename in (
            (StrFails("a"), "StrFails"),
            (ReprFails("b"), "ReprFails"),
            (ReduceFails("c"), "ReduceFails"),
            (ReduceExits("d"), "ReduceExits"),
            (BecomesSomethingElse("e"), "BecomesSomethingElse"),
            (LoadingFails("f"), "LoadingFails"),
            (EverythingFails("g"), "EverythingFails"),
            (Nameless("h"), "object"),
            (WithSlots("i"), "WithSlots"),
            (ValueError(threading.Lock()), "ValueError"),
            (ValueError(ReprFails()), "ValueError"),
        ):
            record = record_raised(exc)
            self.assertEqual(record.ename, ename)
            self.assertIn(ename, record.traceback)
            self.assertEqual(len(record.args_repr), 1)
            pickle.dumps(record)
            rebuild_exception(record)

    def test_no_text(self) -> None:
        record = record_raised(StrFails("a"))
        self.assertEqual(
            record.evalue, "<its message could not be shown: __str__ raised RuntimeError>"
        )
        self.assertEqual(record.args_repr, ("'a'",))

    def test_rebuilt_without_its_own_reduce(self) -> None:
        for exc in (
            ReduceFails("c"),
            ReduceExits("d"),
            BecomesSomethingElse("e"),
            LoadingFails("f"),
        ):
            again = rebuild_exception(record_raised(exc))
            self.assertIs(type(again), type(exc))
            self.assertEqual(again.args, exc.args)

    def test_what_cannot_travel(self) -> None:
        record = record_raised(ValueError("text", threading.Lock()))
        self.assertIsNone(record.pickled)
        self.assertIsNone(rebuild_exception(record))
        self.assertIn("text", record.evalue)

    def test_large_ones_travel_as_text(self) -> None:
        for exc in (
            ValueError("x" * (failures.MAX_PICKLE + 1)),
            ValueError(numpy.zeros(failures.MAX_PICKLE)),
            NeedsTwo(1, "y" * (failures.MAX_PICKLE + 1)),
        ):
            record = record_raised(exc)
            self.assertIsNone(record.pickled)
            self.assertLess(len(record.evalue), MAX_MESSAGE + 100)
            self.assertLess(len(record.traceback), MAX_TEXT + 100)
            self.assertLess(len(record.args_repr[0]), 1200)

    def test_a_damaged_record(self) -> None:
        good = record_raised(ValueError("x"))
        for pickled in (
            b"",
            b"garbage",
            good.pickled[:-5],
            pickle.dumps(()),
            pickle.dumps(((b"x", "", False, None),)),
        ):
            record = ExceptionRecord("ValueError", "x", "text", pickled)
            self.assertIsNone(rebuild_exception(record))

    def test_loading_that_raises_in_the_client(self) -> None:
        blob = pickle.dumps(LoadingFails())
        record = ExceptionRecord("E", "e", "text", pickle.dumps(((blob, "", False, None),)))
        self.assertIsNone(rebuild_exception(record))

    def test_text_is_always_valid(self) -> None:
        record = record_raised(ValueError("lone \udc80 surrogate"))
        self.assertEqual(record.evalue, "lone \\udc80 surrogate")
        record.traceback.encode()

    def test_a_cycle_of_causes(self) -> None:
        one, two = ValueError("one"), ValueError("two")
        one.__cause__, two.__cause__ = two, one
        record = record_exception(one)
        self.assertEqual(rebuild_exception(record).args, ("one",))
        self.assertIn("ValueError: two", record.traceback)


class SessionFailureTests(SessionCase):
    """Exceptions whose classes exist only in a session."""

    def test_rebuilt_in_another_process(self) -> None:
        result = self.run_bad(
            "class Mine(Exception):\n"
            "    def __init__(self, a, b):\n"
            "        super().__init__(f'{a} and {b}')\n"
            "        self.a = a\n"
            "    def twice(self): return self.a * 2\n"
            "raise Mine(4, 5)",
            "Mine",
        )
        program = (
            "import pickle, sys\n"
            "from ipython1.core.failures import rebuild_exception\n"
            "exc = rebuild_exception(pickle.load(sys.stdin.buffer))\n"
            "print(type(exc).__name__, exc, exc.a, exc.twice(), exc.__notes__[-1][-13:])\n"
            "print('IPython' in sys.modules)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program],
            input=pickle.dumps(result.failure),
            stdout=subprocess.PIPE,
            check=True,
            env={"PYTHONPATH": ":".join(path for path in sys.path if path)},
        )
        self.assertEqual(done.stdout.decode(), "Mine 4 and 5 4 8 Mine: 4 and 5\nFalse\n")

    def test_the_users_class_is_left_alone(self) -> None:
        self.run_ok(
            "setting = 1\nclass Mine(Exception):\n    count = 0\n    def look(self): return setting"
        )
        cls = self.session.pull("Mine")
        look = cls.look
        result = self.run_bad("raise Mine('x')", "Mine")
        self.assertIs(cls.look, look)
        again = rebuild_exception(result.failure)
        self.assertIs(type(again), cls)
        self.assertIs(cls.look, look)
        self.run_ok("setting = 2")
        self.assertEqual(again.look(), 2)
