"""Interrupting the intended command, and nothing else."""

from __future__ import annotations

import os
import signal
import threading
import time

import psutil
from twisted.trial.unittest import SynchronousTestCase

from ipython1.core import stacks
from ipython1.core.interrupt import InterruptGate
from ipython1.core.lowlevel import interrupt_main_thread, interrupt_main_thread_portably
from ipython1.core.results import CommandResult
from ipython1.core.tests.support import PATIENCE, SessionCase, beside


class GateTests(SynchronousTestCase):
    def open_gate(self, **options: object) -> InterruptGate:
        gate = InterruptGate(**options)  # type: ignore[arg-type]
        gate.install()
        self.addCleanup(gate.uninstall)
        return gate

    def deliver(self) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)  # the handler has run when this returns

    def test_running(self) -> None:
        gate = self.open_gate()
        interrupted = False
        try:
            with gate.running(7):
                self.assertTrue(gate.request(7))
                time.sleep(PATIENCE)
        except KeyboardInterrupt:
            interrupted = True
        self.assertTrue(interrupted)
        self.assertIsNone(gate.current)

    def test_not_running(self) -> None:
        gate = self.open_gate()
        self.assertFalse(gate.request(7))
        self.assertFalse(gate.request(None))
        with gate.running(8):
            self.assertFalse(gate.request(7))
            self.deliver()

    def test_late_signals_are_absorbed(self) -> None:
        sent: list[int] = []
        gate = self.open_gate(send=lambda main_thread, signum: sent.append(main_thread))
        with gate.running(1):
            self.assertTrue(gate.request(1))
        self.assertEqual(sent[0], threading.main_thread().ident)
        with gate.running(2):
            self.deliver()  # that of command 1
            self.deliver()
        with gate.running(1):
            self.assertTrue(gate.request(1))
        self.deliver()

    def test_a_signal_that_was_lost_is_sent_again(self) -> None:
        """As if it arrived between Python's last check for signals and a blocking system call."""
        sent = []

        def lose_two(main_thread: int, signum: int) -> None:
            sent.append(main_thread)
            if len(sent) > 2:
                interrupt_main_thread(main_thread)

        gate = self.open_gate(send=lose_two)
        gate.current = 1
        with beside(lambda: gate.request(1)):
            self.assertRaises(KeyboardInterrupt, time.sleep, PATIENCE)
        gate.current = None

    def test_unrequested_signals(self) -> None:
        gate = self.open_gate()
        with gate.running(1):
            self.deliver()
        gate = self.open_gate(terminal_interrupts=True)
        self.deliver()
        gate.current = 1
        self.assertRaises(KeyboardInterrupt, self.deliver)
        gate.current = None

    def test_the_terminals_signals(self) -> None:
        """They are distinguished from requested ones, even if one of these arrives twice."""
        now = 100.0
        told: list[object] = []
        gate = self.open_gate(clock=lambda: now)
        gate.on_terminal = lambda: told.append(gate.current)
        self.deliver()
        with gate.running(1):
            self.deliver()
        self.assertEqual(told, [None, 1])
        gate.current = 2
        self.assertRaises(KeyboardInterrupt, lambda: (gate.request(2), time.sleep(PATIENCE)))
        gate.current = None
        self.deliver()
        self.assertEqual(told, [None, 1])
        now += 1.0
        self.deliver()
        self.assertEqual(told, [None, 1, None])

    def test_handler_taken_away(self) -> None:
        gate = self.open_gate()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        self.assertFalse(gate.installed)
        with gate.running(1):
            self.assertTrue(gate.installed)

    def test_sigint_taken_away_by_the_running_command(self) -> None:
        """Whatever user code makes of SIGINT, its command can be interrupted and the process goes on."""
        for handler in (signal.SIG_IGN, signal.SIG_DFL, lambda signum, frame: None):
            gate = self.open_gate()
            with self.assertRaises(KeyboardInterrupt), gate.running(1):
                signal.signal(signal.SIGINT, handler)
                with beside(lambda gate=gate: gate.request(1)):
                    time.sleep(PATIENCE)
            self.assertFalse(gate.request(1))
            gate.uninstall()

    def test_nobody_to_send_again(self) -> None:
        """No thread can be started."""

        def refuse(thread: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        self.patch(threading.Thread, "start", refuse)
        gate = self.open_gate()
        with self.assertRaises(KeyboardInterrupt), gate.running(1):
            gate.request(1)
            time.sleep(PATIENCE)

    def test_handler_given_back(self) -> None:
        before = signal.getsignal(signal.SIGINT)
        gate = self.open_gate()
        gate.install()
        self.assertIsNot(signal.getsignal(signal.SIGINT), before)
        gate.uninstall()
        gate.uninstall()
        self.assertIs(signal.getsignal(signal.SIGINT), before)

    def test_only_in_the_main_thread(self) -> None:
        with beside(lambda: self.assertRaises(ValueError, InterruptGate().install)):
            pass

    def test_where_signals_cannot_be_sent_to_a_thread(self) -> None:
        gate = self.open_gate(send=interrupt_main_thread_portably)
        gate.current = 1

        def spin() -> None:
            with beside(lambda: gate.request(1)):
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline:
                    pass

        self.assertRaises(KeyboardInterrupt, spin)
        gate.current = None

    def test_many_requests_for_short_runs(self) -> None:
        """Each request interrupts the intended run or nothing; the race is repeated many times."""
        gate = self.open_gate()
        stop = False
        asked: set[int] = set()
        hit: set[int] = set()

        def ask() -> None:
            while not stop:
                run = gate.current
                if run is not None and gate.request(run):
                    asked.add(run)
                time.sleep(0.0002)

        with beside(ask):
            for run in range(1, 400):
                try:
                    with gate.running(run):
                        for _ in range(3000):
                            pass
                except KeyboardInterrupt:
                    hit.add(run)
            stop = True
        self.assertLessEqual(hit, asked)


def running_with_argument(argument: str) -> list[psutil.Process]:
    """Return the running processes with this argument, without zombies."""
    return [
        each
        for each in psutil.process_iter(["cmdline", "status"])
        if argument in (each.info["cmdline"] or ()) and each.info["status"] != psutil.STATUS_ZOMBIE
    ]


class SessionInterruptTests(SessionCase):
    def interrupt(self, source: str, when: str = "", times: int = 1) -> CommandResult:
        """Run a command and interrupt it as soon as it runs and ``when`` is in its stack."""

        def ask() -> None:
            for _ in range(times):
                deadline = time.monotonic() + PATIENCE
                while time.monotonic() < deadline:
                    if self.gate.current and when in stacks.main_thread_stack() != stacks.IDLE:
                        break
                    time.sleep(0.002)
                self.gate.request("it")

        with beside(ask), self.gate.running("it"):
            return self.session.execute(source)

    def check(self, source: str, when: str = "") -> CommandResult:
        begin = time.monotonic()
        result = self.interrupt(source, when)
        self.assertIsNotNone(result.failure, source)
        self.assertEqual(result.failure.ename, "KeyboardInterrupt", source)
        self.assertLess(time.monotonic() - begin, PATIENCE / 2)
        self.assertEqual(self.shown("'alive'"), "'alive'")
        return result

    def test_python_code(self) -> None:
        self.run_ok("import time, threading")
        self.check("while True: pass")
        self.check("time.sleep(60)")
        self.check("lock = threading.Lock()\nlock.acquire()\nlock.acquire()", "line 3")
        result = self.check("try:\n    time.sleep(60)\nfinally:\n    print('cleaned')", "sleep")
        self.assertEqual(result.stdout, "cleaned\n")

    def test_a_value_that_is_slow_to_show(self) -> None:
        self.run_ok("class Slow:\n    def __repr__(self):\n        while True: pass")
        self.check("Slow()")

    def test_await(self) -> None:
        self.run_ok("import asyncio")
        result = self.check(
            "async def f():\n    try: await asyncio.sleep(60)\n    finally: print('cleaned')\nawait f()",
            "asyncio.sleep(60)",
        )
        self.assertEqual(result.stdout, "cleaned\n")
        self.assertIn("----> 4 await f()", result.failure.traceback)
        self.assertEqual(self.shown("await asyncio.sleep(0, 'next')"), "'next'")

    def test_an_await_that_will_not_stop(self) -> None:
        self.run_ok(
            "import asyncio\n"
            "async def stubborn():\n"
            "    while True:\n"
            "        try: await asyncio.sleep(60)\n"
            "        except asyncio.CancelledError: pass"
        )
        self.check("await stubborn()", "asyncio.sleep(60)")

    def test_programs_end_too(self) -> None:
        time_of_ours = f"61.{os.getpid()}"
        for source, when in (
            (f"!sleep {time_of_ours}", "sleep"),
            (f"!sleep {time_of_ours}; echo never", "sleep"),
            (f"!sh -c 'sleep {time_of_ours}; echo never'; echo never", "sleep"),
            (f"import subprocess; subprocess.run(['sleep', '{time_of_ours}'])", "_try_wait"),
        ):
            result = self.check(source, when)
            self.assertEqual(result.stdout, "")
        left = running_with_argument(time_of_ours)
        # Killed processes take a moment to end.
        psutil.wait_procs(left, timeout=PATIENCE)
        self.assertEqual(running_with_argument(time_of_ours), [])

    def test_magics(self) -> None:
        self.run_ok("import time")
        self.check("%timeit -n 1 -r 1 time.sleep(60)", "magic-timeit")

    def test_code_that_handles_it(self) -> None:
        self.run_ok("import time")
        result = self.interrupt(
            "try: time.sleep(60)\nexcept KeyboardInterrupt: print('handled')", "sleep"
        )
        self.assertIsNone(result.failure)
        self.assertEqual(result.stdout, "handled\n")

    def test_tasks(self) -> None:
        def ask() -> None:
            deadline = time.monotonic() + PATIENCE
            while stacks.main_thread_stack() == stacks.IDLE and time.monotonic() < deadline:
                time.sleep(0.002)
            self.assertTrue(self.gate.request("task"))

        for run in (
            lambda: self.session.call(time.sleep, (60,)),
            lambda: self.run_source("import time; time.sleep(60)"),
        ):
            self.gate.current = "task"
            with beside(ask):
                outcome = run()
            self.assertEqual(outcome.failure.ename, "KeyboardInterrupt")
            self.assertIsNone(self.gate.current)

    def test_the_gate_is_closed_after_user_code(self) -> None:
        for run in (
            lambda: self.session.execute("1"),
            lambda: self.session.execute("1/0"),
            lambda: self.session.execute("%pwd"),
            lambda: self.session.call(int),
            lambda: self.session.call(int, ("x",)),
            lambda: self.run_source("a = 1"),
            lambda: self.run_source("1/0"),
        ):
            self.gate.current = "run"
            run()
            self.assertIsNone(self.gate.current)

    def test_short_commands_under_fire(self) -> None:
        """Interrupts at any moment end up in a result, never outside of one."""
        stop = False

        def ask() -> None:
            while not stop:
                run = self.gate.current
                if run is not None:
                    self.gate.request(run)
                time.sleep(0.0003)

        outcomes: set[str] = set()
        with beside(ask):
            for run in range(300):
                try:
                    with self.gate.running(run + 1):
                        failure = self.session.execute("x = sum(range(20000))\nx").failure
                except KeyboardInterrupt:  # before the session saw the command
                    continue
                outcomes.add(failure.ename if failure else "")
            stop = True
        self.assertLessEqual(outcomes, {"", "KeyboardInterrupt"})
        self.assertEqual(self.shown("'alive'"), "'alive'")
