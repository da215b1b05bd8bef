"""When hosts are logged in to, how many at a time, and what is said when it fails."""

from __future__ import annotations

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial import unittest

from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.hostlogin import (
    BUSY_ATTEMPTS,
    FIRST_PAUSE,
    LATE,
    LONGEST_PAUSE,
    STEADY,
    HostLogin,
    HostState,
    Instruction,
    LogIn,
    TellAway,
    TellLate,
    TellThere,
    TellUnusable,
    Trouble,
    WakeAt,
)
from ipython1.kernel.launchers.loginslots import FIRST, LEAST, MOST, LoginSlots, Slot
from ipython1.kernel.launchers.sshtroubles import HERE, SIGN, explain


class HostLoginTests(unittest.SynchronousTestCase):
    """Time passes as the instructions ask for it."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.login = HostLogin("node1")
        self.told: list[Instruction] = []

    def follow(self, instructions: list[Instruction]) -> None:
        for each in instructions:
            if isinstance(each, WakeAt):
                self.clock.callLater(max(0.0, each.time - self.clock.seconds()), self.tick)
            else:
                self.told.append(each)

    def tick(self) -> None:
        self.follow(self.login.tick(self.clock.seconds()))

    def taken(self) -> list[Instruction]:
        told, self.told = self.told, []
        return told

    def begin(self) -> None:
        self.follow(self.login.want(asks=True))
        self.follow(self.login.began(self.clock.seconds()))

    def fail(self, trouble: Trouble, reason: str = "node1: no") -> None:
        self.follow(self.login.failed(reason, trouble, self.clock.seconds()))

    def come(self) -> None:
        self.follow(self.login.answered())
        self.follow(self.login.logged_in(self.clock.seconds()))
        self.follow(self.login.ready())

    def lose(self) -> None:
        self.follow(self.login.lost("lost the connection to node1: gone", self.clock.seconds()))

    def test_a_login(self) -> None:
        self.begin()
        self.come()
        self.assertEqual(self.taken(), [LogIn(True), TellThere()])
        self.clock.advance(100)
        self.follow(self.login.want())
        self.assertEqual(self.taken(), [])

    def test_a_host_that_does_not_answer_is_late_once_and_one_that_is_slow_is_not(self) -> None:
        self.begin()
        self.clock.advance(LATE)
        self.clock.advance(100)
        self.assertEqual(self.taken(), [LogIn(True), TellLate()])
        self.come()
        self.assertEqual((self.taken(), self.login.late), ([TellThere()], False))
        self.lose()
        self.clock.advance(FIRST_PAUSE)
        self.follow(self.login.began(self.clock.seconds()))
        self.follow(self.login.answered())
        self.clock.advance(100)
        self.assertEqual(self.taken(), [TellAway(True), LogIn(False)])

    def test_one_that_waits_for_its_turn_is_not_late(self) -> None:
        self.follow(self.login.want())
        self.clock.advance(100)
        self.follow(self.login.began(self.clock.seconds()))
        self.assertEqual(self.taken(), [LogIn(False)])
        self.clock.advance(LATE)
        self.assertEqual(self.taken(), [TellLate()])

    def test_the_pauses_become_longer_and_nobody_is_asked_for_a_password(self) -> None:
        self.begin()
        pauses = []
        for _ in range(9):
            self.fail(Trouble.PASSING)
            before = self.clock.seconds()
            self.taken()
            while not self.told:
                self.clock.advance(0.5)
            pauses.append(self.clock.seconds() - before)
            self.assertEqual(self.taken(), [LogIn(False)])
        self.assertEqual(pauses, [1, 2, 4, 8, 16, 32, *[LONGEST_PAUSE] * 3])

    def test_the_pauses_begin_anew_only_after_a_good_login(self) -> None:
        self.begin()
        for seconds, pause in ((0, 1.0), (0, 2.0), (STEADY, 1.0), (0, 2.0)):
            self.come()
            self.clock.advance(seconds)
            self.lose()
            self.assertEqual(self.login.due - self.clock.seconds(), pause)
            self.clock.advance(pause)

    def test_too_many_logins_at_a_time_are_no_failure_at_first(self) -> None:
        self.begin()
        for _ in range(BUSY_ATTEMPTS):
            self.fail(Trouble.BUSY)
            self.clock.advance(20)
        self.assertEqual(self.taken(), [LogIn(True), *[LogIn(False)] * BUSY_ATTEMPTS])
        self.fail(Trouble.BUSY)
        self.assertEqual(self.taken(), [TellAway(False)])

    def test_what_somebody_must_mend_is_tried_again_only_when_it_is_wanted(self) -> None:
        self.begin()
        self.fail(Trouble.LASTING)
        self.clock.advance(1000)
        self.assertEqual(self.taken(), [LogIn(True), TellUnusable(False)])
        self.follow(self.login.want())
        self.assertEqual(self.taken(), [LogIn(False)])

    def test_a_host_that_is_away_is_tried_at_once_when_it_is_wanted(self) -> None:
        self.begin()
        self.fail(Trouble.PASSING)
        self.taken()
        self.follow(self.login.want())
        self.clock.advance(1000)
        self.assertEqual(self.taken(), [LogIn(False)])

    def test_nothing_happens_after_the_end(self) -> None:
        self.begin()
        self.fail(Trouble.PASSING)
        self.taken()
        self.login.close()
        self.clock.advance(1000)
        self.fail(Trouble.PASSING)
        self.lose()
        self.come()
        self.assertEqual((self.taken(), self.login.state), ([], HostState.CLOSED))


class SlotTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.slots = LoginSlots(self.clock)

    def acquire(self, count: int) -> list[Deferred[Slot]]:
        found = [self.slots.acquire() for _ in range(count)]
        self.clock.pump([0] * (count + 2))
        return found

    def test_so_many_at_a_time_in_order(self) -> None:
        waiting = self.acquire(FIRST + 2)
        self.assertEqual([each.called for each in waiting], [True] * FIRST + [False] * 2)
        first = self.successResultOf(waiting[0])
        first.release()
        first.release()
        self.clock.pump([0, 0])
        self.assertEqual([each.called for each in waiting[FIRST:]], [True, False])

    def test_each_good_login_allows_two_others(self) -> None:
        waiting = self.acquire(100)
        begun = []
        while not all(each.called for each in waiting):
            open_ones = [each for each in waiting if each.called]
            begun.append(len(open_ones))
            for each in open_ones[begun[-2] if len(begun) > 1 else 0 :]:
                self.slots.accepted()
                self.successResultOf(each).release()
            self.clock.pump([0] * 100)
        self.assertEqual(begun, [10, 30, 70])
        self.assertEqual(self.slots.limit, MOST)

    def test_a_refusal_makes_them_fewer_and_never_too_few(self) -> None:
        for _ in range(10):
            self.slots.accepted()
        waiting = self.acquire(20)
        self.slots.refused()
        self.assertEqual(self.slots.limit, 10)
        for _ in range(9):
            self.slots.refused()
        self.slots.accepted()
        self.assertEqual(self.slots.limit, LEAST)
        late = self.slots.acquire()
        for each in waiting[: 20 - LEAST]:
            self.successResultOf(each).release()
            self.clock.pump([0, 0])
        self.assertNoResult(late)
        self.successResultOf(waiting[-1]).release()
        self.clock.pump([0, 0])
        self.successResultOf(late)

    def test_who_gives_up_waits_no_longer(self) -> None:
        self.acquire(FIRST)
        late = self.slots.acquire()
        late.cancel()
        self.failureResultOf(late, CancelledError)
        self.assertEqual(self.slots.taken, FIRST)


class TroubleTests(unittest.SynchronousTestCase):
    """What ``ssh`` and hosts of several kinds have said."""

    def explain(self, *lines: str, strays: tuple[str, ...] = (), python: str = "") -> str:
        text, self.trouble = explain(HostSpec("me@node1", python=python), lines, strays)
        self.assertTrue(text.startswith("me@node1"), text)
        return text

    def lasting(self, *lines: str, strays: tuple[str, ...] = (), python: str = "") -> str:
        text = self.explain(*lines, strays=strays, python=python)
        self.assertIs(self.trouble, Trouble.LASTING, text)
        return text

    def test_the_host_is_not_there(self) -> None:
        for line, text in (
            (
                "ssh: connect to host 10.0.0.9 port 22: Connection refused",
                "Connection refused (port 22)",
            ),
            (
                "ssh: Could not resolve hostname node1: Name or service not known",
                "Could not resolve hostname node1: Name or service not known",
            ),
            (
                "ssh: connect to host node1 port 22: No route to host",
                "No route to host (port 22)",
            ),
        ):
            self.assertEqual(self.explain(line), f"me@node1: {text}")
            self.assertIs(self.trouble, Trouble.PASSING)

    def test_too_many_logins_at_a_time(self) -> None:
        self.explain(
            "kex_exchange_identification: read: Connection reset by peer",
            "Connection reset by 127.0.0.1 port 22",
        )
        self.assertIs(self.trouble, Trouble.BUSY)

    def test_the_host_key(self) -> None:
        changed = self.lasting(
            "@    WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED!     @",
            "Host key for node1 has changed and you have requested strict checking.",
            "Host key verification failed.",
        )
        self.assertIn("its host key has changed", changed)
        self.assertIn("ssh-keygen -R node1,", changed)
        unknown = self.lasting(
            "No ED25519 host key is known for node1 and you have requested strict checking.",
            "Host key verification failed.",
        )
        self.assertIn("not known here; log in once by hand and accept it: ssh me@node1", unknown)

    def test_a_password_is_wanted(self) -> None:
        text = self.lasting("me@node1: Permission denied (publickey,password).")
        self.assertIn("ssh-copy-id me@node1", text)

    def test_python(self) -> None:
        old = self.lasting("a banner", f"{SIGN}2.7", strays=("Welcome",))
        self.assertIn(f"me@node1 has Python 2.7, but this host has {HERE}; set", old)
        for line in ("sh: 1: exec: python3: not found", "bash: line 1: exec: python3: not found"):
            self.assertIn("there is no interpreter python3; install", self.lasting(line))
        missing = self.lasting("sh: 1: exec: /opt/no/python: not found", python="/opt/no/python")
        self.assertIn("there is no interpreter /opt/no/python", missing)
        lacks = self.lasting("ModuleNotFoundError: No module named 'ipython1'")
        self.assertIn("ipython1 is not installed for the Python there", lacks)

    def test_anything_else_in_its_own_words(self) -> None:
        self.assertEqual(self.explain(), "me@node1: ssh exited without an error message")
        text = self.explain(strays=("", "Welcome", "disk quota exceeded"))
        self.assertEqual(text, "me@node1: disk quota exceeded")
