"""What ``help()`` shows of the task clients' methods that take options."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from twisted.trial import unittest

from ipython1.kernel.clients.asynctaskclient import AsyncTaskClient
from ipython1.kernel.clients.taskclient import TaskClient
from ipython1.kernel.objects.taskoptions import DEFAULTS, NAMES
from ipython1.kernel.tasks.mapper import CallsWithOptions

FIRST = ["self", "clear_before", "clear_after", "retries", "recovery_task", "depend", "block"]


class SignatureTests(unittest.SynchronousTestCase):
    def parameters(self, method: Callable[..., Any]) -> list[inspect.Parameter]:
        return list(inspect.signature(method).parameters.values())

    def test_mapper_and_parallel(self) -> None:
        """The first options can be given by position, as ever; the others by name."""
        for client in (TaskClient, AsyncTaskClient):
            for method in (client.mapper, client.parallel):
                shown = self.parameters(method)
                by_name = [each.name for each in shown if each.kind is each.KEYWORD_ONLY]
                self.assertEqual([each.name for each in shown], [*FIRST, *by_name])
                self.assertEqual({*by_name, *FIRST}, {*FIRST, *NAMES})
                for name in NAMES:
                    self.assertIn(f":param {name}: ", method.__doc__ or "")

    def test_executor(self) -> None:
        shown = self.parameters(TaskClient.executor)
        first = ["self", "max_workers", "initializer", "initargs"]
        self.assertEqual([each.name for each in shown], [*first, *NAMES])
        self.assertEqual({each.kind for each in shown[4:]}, {inspect.Parameter.KEYWORD_ONLY})

    def test_keywords_of_other_packages(self) -> None:
        """The error says what there is instead."""
        client: Any = TaskClient.__new__(TaskClient)
        calls: Any
        for calls in (client, CallsWithOptions(client, DEFAULTS)):
            with self.assertRaisesRegex(TypeError, r"imap\(\) .*'max_outstanding'.* 'outstanding'"):
                calls.imap(abs, [1], max_outstanding=3)
            for name in ("map", "imap"):
                with self.assertRaisesRegex(TypeError, r"with_options\(retries=\.\.\.\)\." + name):
                    getattr(calls, name)(abs, [1], retries=3)
