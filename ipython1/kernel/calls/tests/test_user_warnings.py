"""Warnings of user code, which a log must not swallow."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import twisted.logger
from twisted.trial import unittest

from ipython1.kernel.host import logs
from ipython1.testing.folders import temporary_path


class WarningTests(unittest.SynchronousTestCase):
    def test_logging_leaves_warnings_to_the_user(self) -> None:
        """Warnings of user code go to its standard error, not into the log."""
        begun = warnings.showwarning
        self.patch(logs, "_begun", False)

        class Beginner:
            def beginLoggingTo(self, *args: Any, **kwargs: Any) -> None:
                warnings.showwarning = lambda *args: None  # type: ignore[assignment]

        self.patch(twisted.logger, "globalLogBeginner", Beginner())
        logs.start_logging(logs.LogOptions(Path(temporary_path(self)).absolute())).close()
        self.assertIs(warnings.showwarning, begun)
