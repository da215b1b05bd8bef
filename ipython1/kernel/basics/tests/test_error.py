"""The kernel's errors: how they print, travel and are caught."""

from __future__ import annotations

import builtins
import copy
import io
import pickle
import traceback
from contextlib import redirect_stdout

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.texts import compress_ids
from ipython1.kernel.basics import error
from ipython1.kernel.basics.error import CompositeError, describe_exception, from_wire, to_wire
from ipython1.kernel.tests.wiresupport import quick, run_program
from ipython1.kernel.wire import frames, messages

PUBLIC = [
    "KernelError",
    "ConnectionError",
    "SecurityError",
    "ProtocolError",
    "FileTimeoutError",
    "InvalidEngineID",
    "NoEnginesRegistered",
    "IdInUse",
    "InvalidClientID",
    "InvalidDeferredID",
    "QueueCleared",
    "ResultNotCompleted",
    "ResultAlreadyRetrieved",
    "SerializationError",
    "MessageSizeError",
    "NotAPendingResult",
    "UnpickleableException",
    "InvalidProperty",
    "NotDefined",
    "TaskAborted",
    "TaskTimeout",
    "TaskRejectError",
    "StopLocalExecution",
    "ClientError",
    "EngineDied",
    "CompositeError",
    "VersionMismatch",
]


class Unprintable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def composite(*failures, ids=None, method="execute", results=()):
    elist = [
        (type(value), value, f"Traceback of {value.args[0] if value.args else None}\n")
        for value in failures
    ]
    return CompositeError(method, elist, range(len(elist)) if ids is None else ids, results)


class NamesTest(SynchronousTestCase):
    def test_every_error_can_be_imported_from_the_client_module(self):
        from ipython1.kernel import client

        for name in PUBLIC:
            self.assertIs(getattr(client, name), getattr(error, name))
            self.assertEqual(getattr(error, name).__module__, "ipython1.kernel.error")
            if name != "StopLocalExecution":
                self.assertTrue(issubclass(getattr(error, name), error.KernelError))

    def test_what_leaves_a_block_is_no_error_that_programs_catch(self):
        self.assertFalse(issubclass(error.StopLocalExecution, Exception))

    def test_they_travel_by_name_in_whatever_way_they_were_loaded(self):
        """Pickled by value, an engine's error would have a different class from the one that programs catch."""
        for module in ("ipython1.kernel.client", "ipython1.kernel.basics.error"):
            run_program(
                f"""
                import cloudpickle, pickle
                from {module} import EngineDied
                data = cloudpickle.dumps(EngineDied("gone"))
                assert b"ipython1.kernel.error" in data and len(data) < 200, data
                assert type(pickle.loads(data)) is EngineDied
                """
            )

    def test_programs_of_2008_import_errors_from_the_package(self):
        from ipython1.kernel import CompositeError, TaskRejectError

        self.assertIs(TaskRejectError, error.TaskRejectError)
        self.assertIs(CompositeError, error.CompositeError)
        with self.assertRaises(ImportError):
            from ipython1.kernel import NoSuchError  # noqa: F401

    def test_they_are_also_what_python_programs_catch(self):
        for ours, pythons in (
            (error.ConnectionError, builtins.ConnectionError),
            (error.InvalidEngineID, LookupError),
            (error.InvalidProperty, KeyError),
            (error.NotDefined, NameError),
            (error.NotAPendingResult, TypeError),
            (error.ResultNotCompleted, TimeoutError),
            (error.TaskTimeout, TimeoutError),
            (error.FileTimeoutError, TimeoutError),
        ):
            self.assertTrue(issubclass(ours, pythons))

    def test_messages_are_kept_by_pickle_and_copy_and_shown_as_they_are(self):
        for name in PUBLIC:
            if name == "CompositeError":
                continue
            value = getattr(error, name)("what to do")
            self.assertEqual(str(value), "what to do")
            for again in (pickle.loads(pickle.dumps(value)), copy.copy(value)):
                self.assertIs(type(again), type(value))
                self.assertEqual(str(again), "what to do")


class WireTest(SynchronousTestCase):
    def test_errors_of_the_kernel_keep_their_type(self):
        for name in PUBLIC:
            if name not in ("CompositeError", "StopLocalExecution"):
                again = from_wire(*to_wire(getattr(error, name)("why")))
                self.assertIs(type(again), getattr(error, name))
                self.assertEqual(str(again), "why")
        for value in (TypeError("t"), ValueError("v"), IndexError("i")):
            again = from_wire(*to_wire(value))
            self.assertEqual((type(again), str(again)), (type(value), str(value)))

    def test_others_become_kernel_errors_that_name_them(self):
        for value in (
            ZeroDivisionError("by zero"),
            UnicodeDecodeError("a", b"", 0, 1, "b"),
            OSError(5, "io"),
        ):
            again = from_wire(*to_wire(value))
            self.assertIs(type(again), error.KernelError)
            self.assertTrue(str(again).startswith(type(value).__name__))
        self.assertIn("could not be shown", to_wire(Unprintable())[1])

    def test_a_name_from_the_wire_can_name_nothing_else(self):
        for name in ("SystemExit", "CompositeError", "builtins", "Exception", "_BY_NAME", ""):
            self.assertIs(type(from_wire(name, "x")), error.KernelError)

    @quick
    @given(st.text(max_size=50), st.integers(1, 10_000))
    def test_any_message_fits_where_it_must(self, text, times):
        problem = to_wire(error.ProtocolError(text * times))
        meta = messages.OutcomeMeta(1, messages.REFUSED, problem).pack()
        self.assertLessEqual(len(meta), frames.MAX_META)
        self.assertEqual(messages.OutcomeMeta.unpack(meta).error, problem)


class DisplayTest(SynchronousTestCase):
    def test_one_line_for_each_engine(self):
        problem = composite(ZeroDivisionError("division by zero"), NameError("x"), ids=[0, 3])
        self.assertEqual(
            str(problem).splitlines(),
            [
                "one or more exceptions from call to method: execute",
                "[0:execute]: ZeroDivisionError: division by zero",
                "[3:execute]: NameError: x",
            ],
        )
        self.assertEqual(problem.message, str(problem).splitlines()[0])

    def test_up_to_eight_engines_are_listed_one_by_one(self):
        self.assertEqual(len(str(composite(*[ValueError("v")] * 8)).splitlines()), 9)

    def test_identical_errors_of_more_engines_share_a_line(self):
        failures = [NameError("name 'x' is not defined") for _ in range(128)]
        failures[5] = ValueError("other")
        problem = composite(*failures)
        self.assertEqual(
            problem.summary_lines(),
            [
                "[0-4,6-127:execute]: NameError: name 'x' is not defined",
                "[5:execute]: ValueError: other",
            ],
        )
        self.assertEqual(len(problem.elist), 128)
        self.assertEqual(len(problem.exceptions), 128)
        self.assertEqual(len(problem.engine_ids), 128)

    def test_without_engines_the_method_is_named(self):
        self.assertIn(
            "[map]: ValueError: v", str(composite(ValueError("v"), ids=[None], method="map"))
        )

    def test_errors_that_cannot_be_shown_and_those_without_a_message(self):
        lines = composite(Unprintable(), KeyboardInterrupt()).summary_lines()
        self.assertEqual(lines[0], "[0:execute]: Unprintable: <its message could not be shown>")
        self.assertEqual(lines[1], "[1:execute]: KeyboardInterrupt")

    def test_print_tracebacks(self):
        problem = composite(ValueError("a"), ValueError("b"))
        with redirect_stdout(io.StringIO()) as out:
            problem.print_tracebacks()
        self.assertEqual(
            out.getvalue(), "[0:execute]:\nTraceback of a\n\n[1:execute]:\nTraceback of b\n\n"
        )
        with redirect_stdout(io.StringIO()) as out:
            problem.print_tracebacks(1)
        self.assertEqual(out.getvalue(), "[1:execute]:\nTraceback of b\n\n")
        self.assertRaises(IndexError, problem.print_tracebacks, 2)

    @quick
    @given(st.sets(st.integers(0, 40)))
    def test_compressed_ids_name_exactly_those(self, ids):
        named = set()
        for part in filter(None, compress_ids(ids).split(",")):
            first, _, last = part.partition("-")
            named |= set(range(int(first), int(last or first) + 1))
        self.assertEqual(named, ids)

    def test_describe_exception(self):
        self.assertEqual(describe_exception(ValueError("x")), "ValueError: x")
        self.assertEqual(describe_exception(ValueError()), "ValueError")

    def test_an_exception_that_ends_programs_when_it_is_shown(self):
        class Ending(Exception):
            def __str__(self):
                raise SystemExit

        self.assertIn("could not be shown", describe_exception(Ending()))


class CompositeErrorTest(SynchronousTestCase):
    def test_the_engines_exceptions_are_the_cause(self):
        failures = ZeroDivisionError("z"), NameError("n")
        problem = composite(*failures)
        self.assertIsInstance(problem.__cause__, ExceptionGroup)
        self.assertEqual(problem.__cause__.exceptions, failures)
        failures[0].add_note("on engine 0")
        try:
            raise problem
        except CompositeError as caught:
            text = "".join(traceback.format_exception(caught))
        self.assertIn("ZeroDivisionError: z", text)
        self.assertIn("on engine 0", text)
        self.assertIn("direct cause", text)

    def test_interrupts_of_engines_can_be_held_as_well(self):
        problem = composite(KeyboardInterrupt(), SystemExit(3), ValueError())
        self.assertIsInstance(problem.__cause__, BaseExceptionGroup)
        self.assertIsInstance(problem, Exception)

    def test_raise_exception(self):
        failures = ZeroDivisionError("z"), NameError("n")
        problem = composite(*failures)
        self.assertIs(self.assertRaises(ZeroDivisionError, problem.raise_exception), failures[0])
        self.assertIs(self.assertRaises(NameError, problem.raise_exception, 1), failures[1])
        for excid in (2, -3):
            caught = self.assertRaises(IndexError, problem.raise_exception, excid)
            self.assertIn("there are 2", str(caught))
        self.assertRaises(IndexError, CompositeError("execute", []).raise_exception)

    def test_raising_one_again_and_again_does_not_grow_it(self):
        problem = composite(ZeroDivisionError("z"))
        depths = []
        for _ in range(3):
            try:
                raise problem
            except CompositeError:
                caught = self.assertRaises(ZeroDivisionError, problem.raise_exception)
            depths.append(len(traceback.extract_tb(caught.__traceback__)))
            self.assertIsNone(caught.__context__)
        self.assertEqual(len(set(depths)), 1)

    def test_its_repr_names_the_exceptions(self):
        self.assertEqual(
            repr(composite(ZeroDivisionError("z"), NameError("n"))),
            "CompositeError('one or more exceptions from call to method: execute', "
            "[ZeroDivisionError('z'), NameError('n')])",
        )
        many = repr(composite(*(ValueError("x" * 10_000) for _ in range(100))))
        self.assertLess(len(many), 1000)
        self.assertTrue(many.endswith("... 96 more])"), many)
        inner = repr(composite(composite(KeyError("k"), method="map")))
        self.assertIn("method: map", inner)

    def test_it_travels_with_everything(self):
        problem = composite(ZeroDivisionError("z"), NameError("n"), ids=[1, 4], results=["ok"])
        again = pickle.loads(pickle.dumps(problem))
        self.assertEqual(str(again), str(problem))
        self.assertEqual(again.engine_ids, [1, 4])
        self.assertEqual(again.results, ["ok"])
        self.assertEqual([entry[0] for entry in again.elist], [ZeroDivisionError, NameError])
        self.assertEqual([entry[2] for entry in again.elist], [entry[2] for entry in problem.elist])
        self.assertIsInstance(again.__cause__, ExceptionGroup)

    def test_one_error_inside_another_travels_too(self):
        problem = composite(composite(ValueError("inner"), method="map"))
        again = pickle.loads(pickle.dumps(problem))
        self.assertIn("[0:map]: ValueError: inner", str(again.exceptions[0]))
