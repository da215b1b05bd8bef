"""Tests for trial, of code that runs in Twisted's reactor."""

from collections import Counter

import wordcount

from ipython1.kernel.error import EngineDied
from ipython1.testing import AsyncClusterTestCase


async def count_texts(mec, texts):
    return sum(await mec.map(wordcount.words_of, texts), Counter())


class AsyncCountTest(AsyncClusterTestCase):
    async def test_words_are_counted(self):
        self.assertEqual(await count_texts(self.mec, ["a b", "b"]), {"a": 1, "b": 2})

    async def test_nothing_is_left_of_it(self):
        self.assertEqual(await self.mec.keys(), [[], []])

    async def test_tasks(self):
        tc = await self.task()
        self.assertEqual(await tc.map(abs, [-1, 2]), [1, 2])

    async def test_an_engine_that_is_killed(self):
        call = self.mec[0].execute("import time; time.sleep(60)")
        await self.in_thread(self.cluster.kill_engine, 0)
        await self.assertFailure(call, EngineDied)
