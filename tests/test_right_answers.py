"""Calls compute with their own values, whatever other calls and other users do: on a real cluster of two engines."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

from twisted.trial import unittest

from ipython1.testing import RealCluster

PROGRAMS = Path(__file__).parent / "programs"
EXAMPLES = os.environ.get("IPYTHON1_TEST_EXAMPLES", "60")
"""How many random sessions to try."""


class RightAnswersTests(unittest.SynchronousTestCase):
    def test_right_answers(self) -> None:
        """Each program clears the engines' namespaces as it likes."""
        if importlib.util.find_spec("joblib") is None:
            raise unittest.SkipTest("joblib is not installed")
        self.cluster = RealCluster(2)
        self.addCleanup(self.cluster.stop)
        self.cluster.start()
        self.check_cases()
        self.check_two_programs()
        self.check_random_sessions()

    def run_there(self, program: str, *args: str, timeout: float = 120.0) -> list[str]:
        result = self.cluster.run_program(PROGRAMS / program, *args, timeout=timeout)
        return result.stdout.splitlines()

    def check_cases(self) -> None:
        """Each known way of mixing up the values of calls is closed."""
        lines = self.run_there("right_answers_cases.py", timeout=600.0)
        self.assertRegex(lines[-1], r"^all \d+ cases are right$")

    def check_random_sessions(self) -> None:
        """Whatever several users do in any order, calls on engines give what they give in the users' programs."""
        timeout = 600.0 + int(EXAMPLES)
        lines = self.run_there("right_answers.py", "--examples", EXAMPLES, timeout=timeout)
        self.assertEqual(lines[-1], "every answer is right")

    def check_two_programs(self) -> None:
        """Two programs with the same names and other values each get their own."""
        users = [self.start_user(rate) for rate in (1, 2)]
        ways, _ = (self.answer(user).split(";") for user in users)
        wrong = []
        for way in ways:
            for name in ("plain", "nested", "data"):
                for turn, user in enumerate((*users, *users)):
                    assert user.stdin is not None
                    user.stdin.write(f"{way};{name}\n")
                    user.stdin.flush()
                    answer = self.answer(user)
                    if answer != "right":
                        wrong.append(f"user {turn % 2}, {name} through {way}: {answer}")
        self.assertEqual(wrong, [], "\n".join(wrong))

    def start_user(self, rate: int) -> subprocess.Popen[str]:
        user = subprocess.Popen(
            [sys.executable, os.fspath(PROGRAMS / "right_answers_one_user.py"), str(rate)],
            env=self.cluster.environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(self.end, user)
        return user

    def end(self, user: subprocess.Popen[str]) -> None:
        assert user.stdin is not None and user.stdout is not None
        user.stdin.close()
        try:
            user.wait(10)
        except subprocess.TimeoutExpired:
            user.kill()
            user.wait()
        user.stdout.close()

    def answer(self, user: subprocess.Popen[str]) -> str:
        assert user.stdout is not None
        line = user.stdout.readline()
        self.assertTrue(line, "the program has ended")
        return line.strip()
