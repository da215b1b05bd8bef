"""Tests for unittest of a program that uses a cluster."""

import os
import unittest
import unittest.mock

import wordcount

from ipython1.kernel.error import CompositeError
from ipython1.testing import ClusterTestCase, InProcessTestCase


class CountTest(InProcessTestCase):
    def test_words_are_counted(self):
        self.assertEqual(wordcount.count_texts(self.mec, ["a b", "b"]), {"a": 1, "b": 2})

    def test_files_are_tried_again(self):
        answers = [OSError("the server is busy"), "a b"]
        with unittest.mock.patch.object(wordcount, "read", side_effect=answers):
            counted = wordcount.count_files(self.cluster.task(), ["one.txt"])
        self.assertEqual(counted, {"a": 1, "b": 1})


class ProcessTest(ClusterTestCase):
    engines = 3

    def test_each_engine_is_a_process(self):
        pids = self.mec.apply(os.getpid)
        self.assertEqual(len({os.getpid(), *pids}), 4)

    def test_what_fails_on_an_engine(self):
        with self.assertRaises(CompositeError) as caught:
            self.mec.execute("1 / 0", targets=0)
        self.assertIsInstance(caught.exception.exceptions[0], ZeroDivisionError)


if __name__ == "__main__":
    unittest.main()
