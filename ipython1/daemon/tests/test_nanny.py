"""The nanny as a real process: it starts processes, reports on them, and leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar
from unittest import mock

from twisted.trial import unittest

from ipython1 import system
from ipython1.daemon import osprocess
from ipython1.daemon.protocol import (
    Alive,
    AtEnd,
    End,
    Ended,
    Failed,
    FileText,
    Goodbye,
    Heard,
    Hello,
    LineBuffer,
    Message,
    ReadFile,
    Ready,
    Signal,
    Silent,
    Spawn,
    Started,
    WriteFile,
    Written,
    decode,
    encode,
)
from ipython1.daemon.pythoncommand import python_command
from ipython1.daemon.starting import MODULE, NewNanny

SAMPLE = "ipython1.daemon.tests.sample_program"
WITH_REACTOR = "ipython1.daemon.tests.sample_reactor"
LIMIT = 20.0

M = TypeVar("M", bound=Message)


def all_gone(pids: list[int], limit: float = LIMIT) -> list[int]:
    """Wait until none of the processes is alive; return those that still are after ``limit`` seconds."""
    end = time.monotonic() + limit
    left = list(pids)
    while left and time.monotonic() < end:
        left = [pid for pid in left if osprocess.is_alive(pid)]
        if left:
            time.sleep(0.01)
    return left


def until(condition: Callable[[], object]) -> None:
    """Wait for something that another process does."""
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            raise AssertionError("it did not happen in time")
        time.sleep(0.01)


class Conversation:
    """A blocking conversation with a nanny."""

    def __init__(self, send: Callable[[bytes], object], receive: Callable[[], bytes]) -> None:
        self.send_bytes = send
        self._receive = receive
        self._buffer = LineBuffer()
        self._waiting: list[Message] = []
        self.closed = False

    def send(self, *messages: Message) -> None:
        self.send_bytes(b"".join(map(encode, messages)))

    def expect(self, kind: type[M], key: str | None = None) -> M:
        """Return the next message of this kind (and key); keep others for later."""
        end = time.monotonic() + LIMIT
        while time.monotonic() < end:
            for message in self._waiting:
                if isinstance(message, kind) and key in (None, getattr(message, "key", None)):
                    self._waiting.remove(message)
                    return message
            data = self._receive()
            if not data:
                self.closed = True
                raise AssertionError(f"the nanny closed; no {kind.__name__} in {self._waiting}")
            self._waiting.extend(decode(line) for line in self._buffer.feed(data))
        raise AssertionError(f"no {kind.__name__} came; waiting: {self._waiting}")

    def expect_now(self, kind: type[Message], key: str) -> None:
        """Return if such a message has come already."""
        for message in self._waiting:
            if isinstance(message, kind) and getattr(message, "key", None) == key:
                return
        raise AssertionError(f"no {kind.__name__} came; waiting: {self._waiting}")


class NannyCase(unittest.SynchronousTestCase):
    """A nanny and a directory for each test; both are removed afterwards."""

    watch = 0.0

    def setUp(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="ipython1-nanny-"))
        self.addCleanup(shutil.rmtree, self.directory, ignore_errors=True)
        self.log = self.directory / "ipcluster.log"
        nanny = NewNanny()
        self.connection, self.process = nanny.connection, nanny.process
        nanny.set_up(watch=self.watch, log=str(self.log))
        self.connection.settimeout(LIMIT)
        self.addCleanup(self.end_nanny)
        self.talk = Conversation(self.connection.sendall, lambda: self.connection.recv(65536))

    def end_nanny(self) -> None:
        self.connection.close()
        try:
            self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def spawn(self, key: str, *arguments: str, module: str = SAMPLE, **options: object) -> None:
        request = Spawn(
            key,
            ("sample", *arguments),
            module=module,
            log=str(self.directory / f"{key}.log"),
            **options,  # type: ignore[arg-type]
        )
        self.talk.send(request)


class SignsOfLifeTests(NannyCase):
    """Who gives no sign of life is told, and who does again."""

    watch = 0.5

    def test_a_stopped_process_is_told_and_that_it_goes_on(self) -> None:
        self.spawn("one", "beats", "0.05", watch=0.5)
        pid = int(self.talk.expect(Ready, "one").text)
        os.kill(pid, signal.SIGSTOP)
        silent = self.talk.expect(Silent, "one")
        self.assertTrue(silent.stopped)
        self.assertGreaterEqual(silent.seconds, 0.5)
        os.kill(pid, signal.SIGCONT)
        self.talk.expect(Heard, "one")
        self.talk.send(Signal("one", signal.SIGKILL))
        self.talk.expect(Ended, "one")

    def test_a_process_that_spins_is_told_even_before_it_is_ready(self) -> None:
        self.spawn("one", "stubborn", watch=0.5)
        self.assertFalse(self.talk.expect(Silent, "one").stopped)

    def test_a_process_that_is_not_watched_may_be_silent(self) -> None:
        self.spawn("one", "sleep")
        self.spawn("two", "sleep", watch=0.5)
        self.talk.expect(Silent, "two")
        self.assertRaises(AssertionError, self.talk.expect_now, Silent, "one")

    def test_a_silent_supervisor_is_told_in_its_log(self) -> None:
        self.talk.expect(Hello)
        until(lambda: self.log.exists() and "has not answered for" in self.log.read_text())
        self.assertIn(f"ipcluster (process {os.getpid()})", self.log.read_text())
        self.assertEqual(self.log.stat().st_mode & 0o777, 0o600)
        self.talk.send(Alive())
        self.talk.expect(Alive)
        until(lambda: "answers again" in self.log.read_text())


class StartingTests(NannyCase):
    def test_hello_tells_where_it_runs(self) -> None:
        hello = self.talk.expect(Hello)
        self.assertEqual(hello.pid, self.process.pid)
        self.assertEqual(hello.host, socket.gethostname())
        self.assertEqual(hello.python, f"{sys.version_info[0]}.{sys.version_info[1]}")

    def test_a_program_runs_and_its_output_is_in_its_log(self) -> None:
        self.spawn("one", "say", "good", "morning")
        started = self.talk.expect(Started, "one")
        self.assertEqual(self.talk.expect(Ready, "one").text, "good morning")
        ended = self.talk.expect(Ended, "one")
        self.assertEqual((ended.pid, ended.status, ended.signal), (started.pid, 0, None))
        log = self.directory / "one.log"
        self.assertEqual(log.read_text(), "good morning\n")
        self.assertEqual(log.stat().st_mode & 0o777, 0o600)

    def test_a_failure_brings_the_last_lines_of_this_run_only(self) -> None:
        (self.directory / "one.log").write_text("an earlier run\n")
        self.spawn("one", "fail", "no", "such", "package")
        ended = self.talk.expect(Ended, "one")
        self.assertEqual(ended.status, 3)
        self.assertEqual(ended.lines, ("first line of output", "a problem: no such package"))

    def test_environment_and_directory(self) -> None:
        os.environ["IPYTHON1_TEST_GONE"] = "x"
        self.addCleanup(os.environ.pop, "IPYTHON1_TEST_GONE", None)
        command = 'echo "$PWD $ADDED ${IPYTHON1_TEST_GONE-unset}"'
        self.talk.send(
            Spawn(
                "sh",
                ("sh", "-c", command),
                env={"ADDED": "yes", "IPYTHON1_TEST_GONE": None},
                cwd=str(self.directory),
                log=str(self.directory / "sh.log"),
            )
        )
        self.assertEqual(self.talk.expect(Ended).lines, (f"{self.directory} yes unset",))

    def test_what_cannot_be_started_is_told_in_one_line(self) -> None:
        self.talk.send(
            Spawn("a", ("no-such-program-here",)),
            Spawn("b", ("x",), module="ipython1.no_such_module"),
            Spawn("c", ("true",), cwd="/no/such/directory"),
        )
        self.assertIn(
            "program 'no-such-program-here' not found", self.talk.expect(Failed, "a").error
        )
        self.assertIn("cannot import ipython1.no_such_module", self.talk.expect(Failed, "b").error)
        self.assertIn("directory /no/such/directory does not", self.talk.expect(Failed, "c").error)

    def test_siblings_draw_different_random_numbers(self) -> None:
        self.spawn("one", "random")
        self.spawn("two", "random")
        first, second = self.talk.expect(Ready, "one"), self.talk.expect(Ready, "two")
        self.assertNotEqual(first.text, second.text)

    def test_a_forked_program_has_an_empty_main_module(self) -> None:
        self.spawn("one", "main-module")
        self.assertEqual(self.talk.expect(Ready, "one").text, "[]")

    def test_siblings_each_have_a_working_reactor(self) -> None:
        for key in ("one", "two"):
            self.spawn(key, module=WITH_REACTOR)
        for key in ("one", "two"):
            self.assertEqual(self.talk.expect(Ready, key).text, "hello thread")
            self.assertEqual(self.talk.expect(Ended, key).status, 0)

    def test_a_broken_line_is_answered_and_the_next_one_served(self) -> None:
        self.talk.send_bytes(b"Welcome to this host!\n")
        self.assertIn("Welcome to this host!", self.talk.expect(Failed).error)
        self.spawn("one", "say", "x")
        self.assertEqual(self.talk.expect(Ended, "one").status, 0)

    def test_a_program_waits_for_the_one_it_needs(self) -> None:
        self.spawn("engine", "say", "x", after="controller")
        self.assertIn("did not start", self.talk.expect(Failed, "engine").error)
        self.spawn("controller", "sleep")
        self.spawn("engine", "say", "x", after="controller")
        self.assertEqual(self.talk.expect(Ready).key, "controller")
        self.assertEqual(self.talk.expect(Ended, "engine").status, 0)

    def test_a_program_is_not_started_when_the_one_it_needs_failed(self) -> None:
        self.spawn("controller", "fail")
        self.spawn("engine", "say", "x", after="controller")
        self.assertEqual(self.talk.expect(Ended, "controller").status, 3)
        self.assertIn("did not start", self.talk.expect(Failed, "engine").error)


class NoForkTests(NannyCase):
    def setUp(self) -> None:
        os.environ[osprocess.NO_FORK_VARIABLE] = "1"
        self.addCleanup(os.environ.pop, osprocess.NO_FORK_VARIABLE, None)
        super().setUp()

    def test_programs_run_in_a_new_python(self) -> None:
        self.assertFalse(self.talk.expect(Hello).forks)
        self.spawn("one", "say", "good", "morning")
        self.assertEqual(self.talk.expect(Ready, "one").text, "good morning")
        self.assertEqual(self.talk.expect(Ended, "one").status, 0)


class FileTests(NannyCase):
    def test_files_are_written_private_and_read_back(self) -> None:
        path = self.directory / "new" / "a.furl"
        self.talk.send(WriteFile("w", str(path), "pb://secret\n"))
        self.talk.expect(Written, "w")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        self.assertEqual(path.parent.stat().st_mode & 0o777, 0o700)
        self.talk.send(ReadFile("r", str(path)))
        self.assertEqual(self.talk.expect(FileText, "r").text, "pb://secret\n")

    def test_reading_waits_for_the_file(self) -> None:
        path = self.directory / "later.furl"
        self.talk.send(ReadFile("r", str(path), wait=LIMIT), ReadFile("q", str(path)))
        self.assertIn("cannot read", self.talk.expect(Failed, "q").error)
        path.write_text("here")
        self.assertEqual(self.talk.expect(FileText, "r").text, "here")


class EndingTests(NannyCase):
    def families(self) -> list[int]:
        """Start a program with grandchildren of every kind; return all pids."""
        self.spawn("one", "parents")
        return [int(pid) for pid in self.talk.expect(Ready, "one").text.split()]

    def test_grandchildren_end_with_their_engine(self) -> None:
        pids = self.families()
        self.spawn("two", "sleep")
        other = int(self.talk.expect(Ready, "two").text)
        os.kill(pids[0], signal.SIGKILL)
        ended = self.talk.expect(Ended, "one")
        self.assertEqual((ended.status, ended.signal), (None, signal.SIGKILL))
        self.assertEqual(all_gone(pids), [])
        self.assertTrue(osprocess.is_alive(other))

    def test_everything_ends_when_the_supervisor_is_gone(self) -> None:
        pids = self.families()
        self.spawn("two", "stubborn")
        pids.append(int(self.talk.expect(Ready, "two").text))
        self.connection.close()
        self.assertEqual(all_gone([*pids, self.process.pid]), [])

    def test_everything_ends_when_the_nanny_is_told_to(self) -> None:
        pids = self.families()
        self.talk.send(End(grace=LIMIT))
        self.assertEqual(self.talk.expect(Ended, "one").signal, signal.SIGTERM)
        self.talk.expect(Goodbye)
        self.assertEqual(self.process.wait(LIMIT), 0)
        self.assertEqual(all_gone(pids, 0.5), [])

    def test_a_terminated_nanny_ends_everything(self) -> None:
        pids = self.families()
        self.process.terminate()
        self.assertEqual(all_gone([*pids, self.process.pid]), [])

    def test_a_killed_nanny_takes_its_processes_with_it(self) -> None:
        self.spawn("one", "sleep")
        pid = int(self.talk.expect(Ready, "one").text)
        self.process.kill()
        self.assertEqual(all_gone([pid, self.process.pid]), [])

    def test_a_stopped_process_ends_too(self) -> None:
        self.spawn("one", "sleep")
        pid = int(self.talk.expect(Ready, "one").text)
        self.talk.send(Signal("one", signal.SIGSTOP))
        self.talk.send(End(grace=LIMIT))
        self.talk.expect(Goodbye)
        self.assertEqual(all_gone([pid], 0.5), [])

    def test_end_commands_run_when_the_supervisor_is_gone(self) -> None:
        path = self.directory / "cancelled"
        self.talk.send(AtEnd((("sh", "-c", f"sleep 0.2; echo 17 > {path}"),)))
        self.talk.send(WriteFile("done", str(self.directory / "x"), ""))
        self.talk.expect(Written)
        self.connection.close()
        self.process.wait(LIMIT)
        self.assertEqual(path.read_text(), "17\n")

    def test_a_signal_right_after_the_fork_is_the_child_s(self) -> None:
        for _ in range(10):
            self.spawn("one", "sleep")
            self.talk.send(Signal("one", signal.SIGTERM))
            self.assertEqual(self.talk.expect(Ended, "one").signal, signal.SIGTERM)

    def test_nothing_is_started_while_ending(self) -> None:
        self.spawn("one", "stubborn")
        self.talk.expect(Ready)
        self.talk.send(End(grace=0.3), Spawn("two", ("true",)))
        self.assertIn("being stopped", self.talk.expect(Failed, "two").error)


class PortableTests(EndingTests):
    """The same without Linux-specific features."""

    def setUp(self) -> None:
        os.environ[system.PORTABLE_VARIABLE] = "1"
        self.addCleanup(os.environ.pop, system.PORTABLE_VARIABLE, None)
        super().setUp()

    def test_a_killed_nanny_takes_its_processes_with_it(self) -> None:
        raise unittest.SkipTest("only Linux can do that")


class OsProcessTests(unittest.SynchronousTestCase):
    """Both ways to read the process table give the same result."""

    def both(self) -> Iterator[None]:
        for linux in (system.LINUX, False):
            with mock.patch.object(system, "LINUX", linux):
                yield

    def test_a_family(self) -> None:
        environ = {**os.environ, "FAMILY": "yes"}
        shell = subprocess.Popen(
            ["sh", "-c", "sleep 60 & echo $!; wait"],
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(shell.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(shell.wait)
        self.addCleanup(osprocess.send_signal, shell.pid, signal.SIGKILL, group=True)
        child = int(shell.stdout.readline())  # type: ignore[union-attr]
        for _ in self.both():
            self.assertIn(shell.pid, osprocess.descendants(os.getpid()))
            self.assertIn(child, osprocess.descendants(shell.pid))
            entry = osprocess.process_entry(child)
            assert entry is not None
            self.assertEqual((entry.parent, entry.session), (shell.pid, shell.pid))
            self.assertTrue(osprocess.is_alive(child, entry.started))
            self.assertFalse(osprocess.is_alive(child, entry.started + 10))
            self.assertEqual(osprocess.environment_of(child)["FAMILY"], "yes")
        os.kill(shell.pid, signal.SIGKILL)
        self.assertEqual(all_gone([shell.pid]), [])  # a zombie is gone
        for _ in self.both():
            self.assertFalse(osprocess.is_alive(shell.pid))

    def test_signals_by_name_and_number(self) -> None:
        for which in (15, "15", "TERM", "SIGTERM", "term"):
            self.assertEqual(osprocess.signal_number(which), 15)
        for which in ("NONSENSE", 0.5, 4711, "", "SIG"):
            self.assertRaises(ValueError, osprocess.signal_number, which)


class SilenceTests(unittest.SynchronousTestCase):
    def test_a_silent_supervisor_over_pipes_counts_as_gone(self) -> None:
        process = subprocess.Popen(
            python_command(MODULE, ["nanny", "--stdio", "--silence", "0.4"]),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdin is not None and process.stdout is not None
        self.addCleanup(process.stdin.close)
        self.addCleanup(process.stdout.close)
        output = process.stdout
        stdin = process.stdin
        talk = Conversation(
            lambda data: (stdin.write(data), stdin.flush()), lambda: os.read(output.fileno(), 65536)
        )
        talk.send(Spawn("one", ("sh", "-c", "sleep 60 & wait")))
        pid = talk.expect(Started).pid
        talk.expect(Goodbye)
        self.assertEqual(process.wait(LIMIT), 0)
        self.assertEqual(all_gone([pid], 0.5), [])
