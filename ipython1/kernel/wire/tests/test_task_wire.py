"""The packed forms of tasks and results."""

from __future__ import annotations

import struct
import threading
from typing import Any

import numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core.failures import record_exception
from ipython1.core.results import CallOutcome
from ipython1.kernel.basics.error import ProtocolError, SerializationError
from ipython1.kernel.objects import taskcodec
from ipython1.kernel.objects.serialize import loads
from ipython1.kernel.objects.taskobjects import BaseTask, MapTask, StringTask, template_of
from ipython1.kernel.objects.taskoptions import TaskOptions
from ipython1.kernel.tasks.encoder import FunctionPacker, TaskEncoder
from ipython1.kernel.wire import frames, taskwire
from ipython1.kernel.wire.taskwire import Entry, OptionsSpec

payloads = st.binary(max_size=200)
attempts = st.integers(0, 2**64 - 1)
numbers = st.integers(0, 2**32 - 1)
task_ids = st.integers(0, 2**63)
digests = st.binary(min_size=16, max_size=16)
quiet = settings(deadline=None, max_examples=60, database=None)


def bodies(made: Any) -> list[bytes]:
    """The payloads of packed frames; the frames themselves are checked."""
    found: list[bytes] = []
    for parts, size in made:
        data = b"".join(parts)
        assert len(data) == size < frames.BATCH_SIZE
        frames.dispatch(
            data, lambda kind, flags, ident, meta, payload: found.append(bytes(payload))
        )
    return found


class RoundTripTests(SynchronousTestCase):
    """What is packed can be unpacked."""

    @quiet
    @given(
        st.builds(
            OptionsSpec,
            digests,
            numbers,
            st.integers(-(2**31), 2**31 - 1),
            st.floats(0, 1e9),
            st.integers(1, 2**32 - 1),
            st.one_of(st.just(b""), digests.filter(any)),
            st.lists(digests, max_size=5).map(tuple),
            st.booleans(),
            st.text(st.characters(exclude_categories=("Cs",)), max_size=20),
        )
    )
    def test_options(self, options: OptionsSpec) -> None:
        self.assertEqual(OptionsSpec.unpack(options.pack()), options)

    def test_long_words_are_cut(self) -> None:
        spec = OptionsSpec(b"t" * 16, functions=(b"f" * 16,), what="\u00e4\udc80" * 100)
        read = OptionsSpec.unpack(spec.pack())
        self.assertEqual(read.functions, spec.functions)
        self.assertTrue(read.what.startswith("\u00e4?\u00e4?"))
        self.assertLessEqual(len(read.what.encode()), taskwire.LONGEST_WHAT + 2)

    @quiet
    @given(
        st.lists(
            st.tuples(
                task_ids,
                st.sampled_from([b"one", b"two"]),
                payloads,
                st.lists(st.tuples(st.sampled_from([b"one", b"three"]), payloads), max_size=3),
            ),
            max_size=30,
        )
    )
    def test_submissions(self, tasks: list[Any]) -> None:
        entries = [Entry(*task) for task in tasks]
        unpacked = [
            submitted
            for body in bodies(taskwire.pack_submissions(entries))
            for submitted in taskwire.unpack_submissions(body, lambda packed: packed)
        ]
        self.assertEqual([(*each[:3], list(each[3])) for each in unpacked], tasks)
        for entry in entries:
            head, payload = taskwire.pack_submission_head(entry)
            [alone] = taskwire.unpack_submissions(head, lambda packed: packed, b"".join(payload))
            self.assertEqual((*alone[:3], list(alone[3])), (*entry[:3], list(entry[3])))

    @quiet
    @given(st.lists(st.tuples(task_ids, attempts, st.integers(0, 1), payloads), max_size=50))
    def test_runs(self, runs: list[Any]) -> None:
        unpacked = [
            run for body in bodies(taskwire.pack_runs(runs)) for run in taskwire.unpack_runs(body)
        ]
        self.assertEqual(unpacked, runs)

    def test_results_that_cannot_be_are_refused_as_a_whole(self) -> None:
        good = (1, 1, 0, 0.5, b"x")
        for status, seconds in ((9, 0.5), (0, -0.1), (0, float("nan")), (0, float("inf"))):
            bad = (2, 1, status, seconds, b"")
            for parts, _ in taskwire.pack_results([good, bad], 1):
                payload = b"".join(parts)[frames.HEADER_SIZE :]
                self.assertRaises(ProtocolError, taskwire.unpack_results, payload)
            head = taskwire.pack_result_head(*bad[:4])
            self.assertRaises(ProtocolError, taskwire.unpack_result_head, head)

    @quiet
    @given(
        st.lists(
            st.tuples(task_ids, attempts, st.integers(0, 4), st.floats(0, 1e6), payloads),
            max_size=50,
        )
    )
    def test_results(self, results: list[Any]) -> None:
        made = list(taskwire.pack_results(results, 1))
        unpacked = [entry for body in bodies(made) for entry in taskwire.unpack_results(body)]
        self.assertEqual(unpacked, results)

    def test_many_large_ones_take_several_frames(self) -> None:
        runs = [(n, 1, 0, bytes(100_000)) for n in range(20)]
        made = bodies(taskwire.pack_runs(runs))
        self.assertEqual(len(made), 20)

    def test_a_frame_of_results_says_which_row_is_its_first(self) -> None:
        results = [(n, 1, 0, 0.5, bytes(40_000)) for n in range(5)]
        idents: list[tuple[int, int]] = []
        for parts, _ in taskwire.pack_results(results, 7):
            frames.dispatch(
                b"".join(parts),
                lambda kind, flags, ident, meta, payload: idents.append(
                    (ident, len(taskwire.unpack_results(payload)))
                ),
            )
        self.assertEqual(idents, [(7, 2), (9, 2), (11, 1)])

    def test_attempts_of_a_later_epoch_are_larger(self) -> None:
        early, late = taskwire.attempt_number(1, 2**32 - 1), taskwire.attempt_number(2, 0)
        self.assertLess(early, late)
        self.assertEqual((taskwire.epoch_of(early), taskwire.epoch_of(late)), (1, 2))

    @quiet
    @given(st.data())
    def test_damage_is_noticed(self, data: st.DataObject) -> None:
        """A cut or changed message gives a ProtocolError or other values, and nothing else."""
        runs = [(n, 1, 0, b"x" * n) for n in range(5)]
        results = [(n, 1, 0, 0.5, b"y" * n) for n in range(5)]
        entries = [Entry(n, b"o", b"z" * n, [(b"p", b"q")]) for n in range(3)]
        for made, unpack in (
            (taskwire.pack_runs(runs), taskwire.unpack_runs),
            (taskwire.pack_results(results, 7), taskwire.unpack_results),
            (
                taskwire.pack_submissions(entries),
                lambda body: taskwire.unpack_submissions(body, lambda packed: packed),
            ),
        ):
            [body] = bodies(made)
            cut = body[: data.draw(st.integers(0, len(body) - 1))]
            self.assertRaises(ProtocolError, unpack, cut)
            place = data.draw(st.integers(0, len(body) - 1))
            changed = bytearray(body)
            changed[place] ^= data.draw(st.integers(1, 255))
            try:
                unpack(bytes(changed))
            except ProtocolError:
                pass


def same(one: Any, other: Any) -> bool:
    """Whether two values of the same kind are equal."""
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and bool(numpy.array_equal(one, other))


def outcome(**fields: Any) -> CallOutcome:
    plain = CallOutcome(None, "", "", (), 0.0, 0.0, 0.0, None)
    return plain._replace(**fields)


class CodecTests(SynchronousTestCase):
    """Results between engine and client."""

    def there_and_back(self, out: CallOutcome, value: Any, named: bool = False) -> Any:
        good, data = taskcodec.pack_result(out, value, named)
        self.assertEqual(good, out.failure is None)
        return taskcodec.unpack_result(data)

    def test_values(self) -> None:
        for value in (None, 5, "text", b"bytes", [1, {"a": (2,)}], 10**50, {"x": 1}):
            read = self.there_and_back(outcome(), value)
            self.assertEqual((read.result, read.named, read.failure), (value, False, None))

    def test_nothing_to_say_is_empty(self) -> None:
        self.assertEqual(taskcodec.pack_result(outcome(), None, True), (True, b""))

    def test_output(self) -> None:
        read = self.there_and_back(outcome(stdout="ä\ud800", stderr="e"), {"a": 1}, True)
        self.assertEqual((read.stdout, read.stderr, read.result), ("ä\ud800", "e", {"a": 1}))
        self.assertTrue(read.named)

    def test_display(self) -> None:
        shown = (({"text/plain": "x"}, {}),)
        read = self.there_and_back(outcome(display=shown), 3)
        self.assertEqual((read.result, read.display), (3, shown))

    def test_failure(self) -> None:
        record = record_exception(ZeroDivisionError("division by zero"))
        read = self.there_and_back(outcome(failure=record, stdout="so far"), None)
        self.assertIsInstance(read.failure, ZeroDivisionError)
        self.assertEqual(read.stdout, "so far")

    def test_what_cannot_be_pickled(self) -> None:
        good, data = taskcodec.pack_result(outcome(stdout="said"), threading.Lock(), False)
        read = taskcodec.unpack_result(data)
        self.assertFalse(good)
        self.assertIsInstance(read.failure, SerializationError)
        self.assertEqual(read.stdout, "said")

    def test_items_fail_alone(self) -> None:
        record = record_exception(ValueError("bad"))
        mixed = taskcodec.pack_items([(True, 1), (False, record), (True, threading.Lock())])
        read = self.there_and_back(outcome(), mixed)
        items = [taskcodec.unpack_item(*item) for item in read.result]
        self.assertEqual(items[0], 1)
        self.assertIsInstance(items[1], ValueError)
        self.assertIsInstance(items[2], SerializationError)
        self.assertEqual(taskcodec.pack_items([(True, 1), (True, 2)]), [1, 2])

    def test_large_values(self) -> None:
        array = numpy.arange(2**18)
        for value in (array, [array, 3], b"x" * 2**21, "\u20ac" * 2**20, [bytearray(2**21)] * 2):
            for out in (outcome(), outcome(stdout="ä", stderr="e", display=(({"a/b": "x"}, {}),))):
                good, data = taskcodec.pack_result(out, value, False)
                self.assertTrue(good)
                read = taskcodec.unpack_result(data)
                self.assertEqual((read.stdout, read.stderr), (out.stdout, out.stderr))
                self.assertEqual(taskcodec.output_of(data), (out.stdout, out.stderr))
                self.assertTrue(same(read.result, value))

    def test_large_values_are_as_they_were_and_private(self) -> None:
        array = numpy.zeros(2**18)
        packed = taskcodec.pack_object([array, array[:5000]])
        extra = taskcodec.pack_arguments((array,), {"a": array[1:]})
        task = taskcodec.pack_task(taskcodec.Kind.CALL, 0, b"digest", extra, extra)
        array[:] = 1
        for _ in range(2):
            one, other = taskcodec.unpack_object(packed)
            self.assertEqual((one.sum(), other.sum()), (0, 0))
            one += 1
            other += 1
            body = taskcodec.unpack_task(task)
            self.assertEqual(bytes(body.body), b"digest")
            for section in (body.extra, body.push):
                (args,), kwargs = taskcodec.unpack_arguments(section, loads)
                self.assertEqual((args.sum(), kwargs["a"].sum()), (0, 0))
                args += 1
                kwargs["a"] += 1

    def test_so_many_arrays_that_their_number_looks_like_a_pickle(self) -> None:
        for number in (0x0580 - 2, 0x0580 - 1, 0x0580):
            value = [numpy.full(128, n) for n in range(number)]
            read = self.there_and_back(outcome(), value)
            self.assertTrue(same(read.result, value))

    def test_damaged_tasks(self) -> None:
        data = taskcodec.pack_task(taskcodec.Kind.SOURCE, 0, b"a = 1", b"a")
        for cut in range(len(data)):
            self.assertRaises(ProtocolError, taskcodec.unpack_task, data[:cut])


class EncoderTests(SynchronousTestCase):
    """Tasks to bytes, and functions that stay the same or do not."""

    def test_a_function_is_sent_by_itself_only_when_it_is_used_again(self) -> None:
        encoder = TaskEncoder()
        task = MapTask(lambda x: x, (1,))
        first, second, third = (encoder.encode(task) for _ in range(3))
        self.assertEqual(len(first.functions), 0)
        self.assertEqual(len(second.functions), 1)
        self.assertEqual(second.functions[0].digest, third.functions[0].digest)
        self.assertLess(len(third.payload), len(first.payload))
        self.assertEqual(
            OptionsSpec.unpack(first.options).template, OptionsSpec.unpack(third.options).template
        )

    def test_what_a_function_closes_over(self) -> None:
        packer = FunctionPacker()
        value: Any = 1

        def function() -> Any:
            return value

        one, _ = packer.pack(function)
        again, known = packer.pack(function)
        self.assertIs(again, one)
        self.assertTrue(known)
        value = 2
        other, known = packer.pack(function)
        self.assertNotEqual(other.digest, one.digest)
        self.assertFalse(known)
        self.assertEqual(other.template, one.template)
        value = [1]
        mutable, _ = packer.pack(function)
        value.append(2)
        changed, known = packer.pack(function)
        self.assertNotEqual(changed.digest, mutable.digest, "a list can change unnoticed")

    def test_code_that_differs_in_numbers_takes_the_same_time(self) -> None:
        self.assertEqual(template_of("a = 73; b2 = 1"), template_of("a = 5; b9 = 22"))
        encoder = TaskEncoder()
        one = OptionsSpec.unpack(encoder.encode(StringTask("a = 1")).options)
        two = OptionsSpec.unpack(encoder.encode(StringTask("a = 200")).options)
        three = OptionsSpec.unpack(encoder.encode(StringTask("b = 1")).options)
        self.assertEqual(one.template, two.template)
        self.assertNotEqual(one.template, three.template)

    def test_people_are_told_what_a_task_does(self) -> None:
        def square(x: int) -> int:
            return x * x

        class Odd:
            def __call__(self) -> None: ...

        class Own(MapTask):
            def post_task(self, engine: Any) -> None: ...

        encoder = TaskEncoder()
        name = square.__qualname__
        for task, what in (
            (StringTask("\n  a = 5\nb = 6"), "a = 5"),
            (StringTask(""), ""),
            (StringTask("x = '\ud800'"), r"x = '\ud800'"),
            (MapTask(square, (1,)), name),
            (MapTask(Odd()), "Odd"),
            (Own(square, (1,)), "Own"),
        ):
            self.assertEqual(OptionsSpec.unpack(encoder.encode(task).options).what, what)
        prepared = encoder.prepare(square, TaskOptions())
        for encoded in (
            encoder.encode_items(prepared, [(1,)]),
            encoder.encode_item(prepared, (1,)),
        ):
            self.assertEqual(OptionsSpec.unpack(encoded.options).what, name)

    def test_recovery_tasks(self) -> None:
        last = StringTask("c", retries=3)
        task = StringTask("a", recovery_task=MapTask(len, ("x",), recovery_task=last))
        encoded = TaskEncoder().encode(task)
        self.assertEqual(len(encoded.recovery), 2)
        self.assertEqual(OptionsSpec.unpack(encoded.recovery[1][0]).retries, 3)
        last.recovery_task = task
        self.assertRaises(ValueError, TaskEncoder().encode, task)

    def test_ones_own_types_leave_at_home_what_engines_do_not_need(self) -> None:
        class Own(BaseTask):
            pass

        task = Own(depend=lambda properties: True, recovery_task=StringTask("x" * 10_000))
        encoded = TaskEncoder().encode(task)
        self.assertLess(len(encoded.payload), 5_000)
        self.assertEqual(len(encoded.recovery), 1)
        self.assertTrue(OptionsSpec.unpack(encoded.options).depend)
        self.assertIsNotNone(task.depend)

    def test_a_subclass_that_changes_nothing_on_the_engine_is_as_fast(self) -> None:
        class Named(StringTask):
            def process_result(self, result: Any, engineid: int) -> Any:
                return result

        kind = struct.unpack_from("B", TaskEncoder().encode(Named("a = 1")).payload)[0]
        self.assertEqual(kind, taskcodec.Kind.SOURCE)
