"""Requests: what is asked of an engine, and how its answer is read."""

from __future__ import annotations

import numpy
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.calls import requests
from ipython1.kernel.calls.calls import Reading, Request
from ipython1.kernel.calls.resultlist import ResultList
from ipython1.kernel.objects.mapparts import MapPart
from ipython1.kernel.objects.serialize import dumps, loads
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.named import pack_named, unpack_named
from ipython1.kernel.wire.payload import Serialized, join_inline, split_inline


def head(request: Request) -> dict:
    return messages.unpack_json(request.buffers[0])


def came_to(engine_id: int, values: list) -> Reading:
    return Reading(engine_id, MapPart(values, {}))


class RequestsTest(SynchronousTestCase):
    def test_code(self):
        request = requests.execute("a = 'ä'", stream=True)
        self.assertEqual(
            (request.name, request.command, request.stream), ("execute", "execute", True)
        )
        self.assertEqual(head(request), {"source": "a = 'ä'"})
        self.assertIsInstance(request.combine([{"id": 0}]), ResultList)
        self.assertEqual(head(requests.get_result(None)), {"i": None})
        self.assertEqual(head(requests.get_result(3)), {"i": 3})

    def test_names_stand_before_the_objects(self):
        """The controller shows them in queues, and looks into nothing else."""
        request = requests.push({"a": 1, "b": numpy.zeros(5000)}, snapshot=False)
        self.assertEqual(list(head(request)["names"]), ["a", "b"])
        named, _ = unpack_named(split_inline(join_inline(request.buffers)))
        self.assertEqual(loads(named["a"]), 1)
        self.assertEqual(loads(named["b"]).shape, (5000,))

    def test_arrays_are_copied_only_when_they_may_change(self):
        for snapshot in (True, False):
            array = numpy.zeros(5000)
            request = requests.push({"a": array}, snapshot)
            array[0] = 1
            named, _ = unpack_named(request.buffers)
            self.assertEqual(loads(named["a"])[0], 0 if snapshot else 1)

    def test_one_name_and_several(self):
        answer = pack_named({"a": dumps(1), "b": dumps(2)})
        for keys, value in (("a", 1), (["a", "b"], [1, 2]), (("b",), [2])):
            self.assertEqual(requests.pull(keys).read(answer), value)
        pulled = requests.pull_serialized(["a"]).read(answer)
        self.assertIsInstance(pulled[0], Serialized)
        self.assertEqual(requests.zip_pull(["a", "b"]).combine([[1, 2], [3, 4]]), [(1, 3), (2, 4)])
        self.assertEqual(head(requests.pull(["a", "b"])), {"keys": ["a", "b"]})

    def test_gathered_parts_are_joined_as_they_were_cut(self):
        self.assertEqual(requests.gather("a", "b").combine([[1, 2], [3]]), [1, 2, 3])
        self.assertEqual(requests.gather("a", "r").combine([[1, 3], [2]]), [1, 2, 3])

    def test_each_engine_gets_its_part(self):
        request = requests.scatter("a", range(5), "b", False, False)
        parts = {
            engine_id: unpack_named(buffers)[0]["a"]
            for engine_id, buffers in request.for_targets([4, 7])
        }
        self.assertEqual(
            {engine_id: loads(part) for engine_id, part in parts.items()}, {4: [0, 1, 2], 7: [3, 4]}
        )

    def test_engines_without_items_take_no_part_in_a_map(self):
        request = requests.raw_map(abs, [[1, 2]], "b", False)
        self.assertEqual([engine_id for engine_id, _ in request.for_targets([5, 6, 7])], [5, 6])
        self.assertEqual(request.conclude([came_to(5, [1]), came_to(6, [2])]), [1, 2])

    def test_the_function_of_a_map_is_pickled_once(self):
        pickled = []

        class Function:
            def __call__(self, x):
                return x

            def __reduce__(self):
                pickled.append(1)
                return (int, ())

        request = requests.raw_map(Function(), [range(8)], "b", False)
        request.for_targets(range(4))
        self.assertEqual(len(pickled), 1)

    def test_a_request_without_its_data_still_reads_answers(self):
        request = requests.push({"a": numpy.zeros(10**6)}, False).without_data()
        self.assertEqual((request.buffers, request.for_targets), ((), None))
        self.assertIsNone(request.read(()))
        self.assertEqual(request.combine([None]), [None])
        mapped = requests.raw_map(abs, [[-1]], "b", False)
        mapped.for_targets([0])
        self.assertEqual(mapped.without_data().conclude([came_to(0, [1])]), [1])

    def test_names_that_python_needs_are_not_set(self):
        name = "__builtins__"
        for refused in (
            lambda: requests.push({name: 1}, False),
            lambda: requests.push_function({name: len}, False),
            lambda: requests.push_serialized({name: dumps(1)}, False),
            lambda: requests.scatter(name, [1], "b", False, False),
        ):
            self.assertIn(name, str(self.assertRaises(ValueError, refused)))
        requests.pull(name)

    def test_functions_with_arguments(self):
        request = requests.apply("call", max, [3, 4], {"default": 0})
        self.assertEqual(loads(request.buffers), (max, (3, 4), {"default": 0}))
        self.assertEqual(request.read(dumps((5, {})).buffers).value, 5)
        self.assertRaises(TypeError, requests.apply, "call", 5, [], {})
