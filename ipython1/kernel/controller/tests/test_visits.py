"""Who is connected, who is revoked, and what the audit log says of them."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import uuid
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClientError, KernelError, SecurityError
from ipython1.kernel.calls.clientlink import ClientEnd
from ipython1.kernel.controller import audit
from ipython1.kernel.controller.audit import AuditLog
from ipython1.kernel.controller.capabilities import Capabilities
from ipython1.kernel.controller.revocations import Revocations
from ipython1.kernel.controller.visits import Visits
from ipython1.kernel.host.peerprocess import Ends
from ipython1.kernel.wire import frames, messages, taskwire
from ipython1.kernel.wire.payload import join_inline
from ipython1.testing import InMemoryCluster
from ipython1.testing.folders import temporary_path
from ipython1.testing.memory import connect_in_memory

NOON = 1_200_000_000.0


def hello(role: str = messages.MULTIENGINE, **changes: Any) -> messages.Hello:
    greeting = messages.Hello(
        uuid=uuid.uuid4().hex,
        pid=99,
        host="there",
        role=role,
        secret=messages.new_secret(),
        label="ann@there",
    )
    return dataclasses.replace(greeting, **changes)


class RevocationTests(SynchronousTestCase):
    def setUp(self):
        folder = Path(temporary_path(self))
        folder.mkdir(mode=0o700)
        self.path = folder / "ipcontroller.revoked"

    def test_a_revoked_client_is_refused_also_by_the_next_controller(self):
        one, other = uuid.uuid4().hex, uuid.uuid4().hex
        revocations = Revocations(self.path)
        revocations.add(one, NOON, "ann@there\n\x1b[2J")
        for each in (revocations, Revocations(self.path)):
            with self.assertRaisesRegex(SecurityError, f"{one[:8]} was revoked"):
                each.check(one)
            each.check(other)
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        text = self.path.read_text()
        self.assertEqual(len(text.splitlines()), 2)
        self.assertTrue(text.replace("\n", "").isprintable())

    def test_a_line_that_is_removed_lets_its_client_in_again(self):
        ids = [uuid.uuid4().hex for _ in range(3)]
        revocations = Revocations(self.path)
        for each in ids:
            revocations.add(each, NOON, "ann")
        lines = self.path.read_text().splitlines(keepends=True)
        self.path.write_text("".join(line for line in lines if ids[1] not in line))
        again = Revocations(self.path)
        again.check(ids[1])
        self.assertRaises(SecurityError, again.check, ids[0])
        self.assertEqual(len(again), 2)

    def test_a_damaged_or_open_file_is_never_taken_for_an_empty_one(self):
        for content in ("no uuid here\n", "", "abcd 2008 ann\n"):
            self.path.write_text(content)
            self.path.chmod(0o600)
            self.assertRaises(SecurityError, Revocations, self.path)
        self.path.write_text("# nobody\n")
        Revocations(self.path)
        self.path.chmod(0o644)
        self.assertRaises(SecurityError, Revocations, self.path)

    def test_without_a_file(self):
        revocations = Revocations()
        one = uuid.uuid4().hex
        revocations.check(one)
        revocations.add(one, NOON, "")
        self.assertRaises(SecurityError, revocations.check, one)


class VisitCase(SynchronousTestCase):
    """Clients that come through the door of the MultiEngine interface of a real controller."""

    observer: Any = None

    def setUp(self):
        self.cluster = InMemoryCluster(1)
        self.pump = self.cluster.pump
        self.revocations = Revocations()
        self.visits = Visits(self.revocations, self.observer, lambda: NOON)
        self.door = self.visits.door(messages.MULTIENGINE, self.cluster.multiengine_face.accept)

    def connect(self, greeting: messages.Hello | None = None) -> ClientEnd:
        greeting = greeting or hello()
        end = ClientEnd(bytes.fromhex(greeting.uuid))
        session = self.door(greeting)
        link, there = connect_in_memory(self.pump, end, session)
        there.ends = Ends(("127.0.0.1", 10105), ("127.0.0.1", 4711))
        end.attach(link, session.attach(there))
        session.opened()
        return end

    def settle(self, value: Any) -> Any:
        self.pump.run()
        return self.successResultOf(value)


class VisitTests(VisitCase):
    def test_visits_are_what_the_real_sessions_are(self):
        end = self.connect()
        self.assertEqual(self.settle(end.ask("get_ids")), [0])
        self.assertEqual(
            [visit.describe() for visit in self.visits.here()],
            [
                {
                    "interface": "multiengine",
                    "client": end.origin.hex()[:8],
                    "label": "ann@there",
                    "address": "127.0.0.1:4711",
                    "since": NOON,
                }
            ],
        )
        end.close()
        self.pump.run()
        self.assertEqual(self.visits.here(), [])
        self.assertFalse(self.cluster.controller.clients.is_connected(end.origin))

    def test_who_is_refused_was_never_here(self):
        self.assertRaises(SecurityError, self.door, hello(role=messages.TASK))
        self.assertEqual(self.visits.here(), [])

    def test_a_registration_that_fails_leaves_nothing(self):
        session = self.door(hello())
        session.link_lost("its registration failed")
        self.assertEqual(self.visits.here(), [])

    def test_cutting_off_ends_the_connections_of_one_interface(self):
        ends = [self.connect() for _ in range(3)]
        self.assertEqual(self.visits.cut_off(messages.TASK, "why"), 0)
        self.assertEqual(self.visits.cut_off(messages.MULTIENGINE, "why"), 3)
        self.pump.run()
        self.assertEqual([end.connected for end in ends], [False] * 3)
        self.assertEqual(self.visits.here(), [])

    def test_a_revoked_client_hears_why_and_cannot_come_back(self):
        greeting = hello()
        end, other = self.connect(greeting), self.connect()
        end.reconnects = True
        self.assertEqual(self.visits.revoke(greeting.uuid, greeting.label, "it was revoked"), 1)
        self.pump.run()
        self.assertFalse(end.usable)
        problem = self.failureResultOf(end.ask("get_ids")).value
        self.assertIn("it was revoked", str(problem))
        self.assertRaises(SecurityError, self.door, greeting)
        self.assertEqual(self.settle(other.ask("get_ids")), [0])


class OrderTests(VisitCase):
    """What ``ipcontroller furl`` orders, as far as clients are concerned."""

    def setUp(self):
        super().setUp()
        clients = self.cluster.controller.clients
        self.capabilities = Capabilities(self.visits, clients, lambda: NOON)

    def order(self, order: str, **args: Any) -> Any:
        return Deferred.fromCoroutine(self.capabilities.orders()[order](**args))

    def test_the_list_has_those_who_are_here_and_those_who_may_come_back(self):
        one, other = self.connect(), self.connect()
        other.reconnects = True
        self.cluster.controller.clients._grace = 60.0
        other.link.abort("a broken network")
        self.pump.run()
        found = self.successResultOf(self.order("furl_list"))
        self.assertEqual(
            [(each["client"], each["address"]) for each in found["clients"]],
            [(one.origin.hex()[:8], "127.0.0.1:4711"), (other.origin.hex()[:8], "away")],
        )
        revoked = self.successResultOf(self.order("furl_revoke", client=other.origin.hex()[:8]))
        self.assertEqual(revoked, {"client": other.origin.hex()[:8], "label": "ann@there"})
        self.assertFalse(self.cluster.controller.clients.is_living(other.origin))
        self.assertRaises(SecurityError, self.revocations.check, other.origin.hex())
        self.pump.advance(100)

    def test_only_one_client_is_revoked_at_a_time(self):
        self.connect(hello(uuid="abcd" + "1" * 28))
        self.connect(hello(uuid="abcd" + "2" * 28))
        for name, words in (
            ("abcd", "2 clients"),
            ("abc", "no client"),
            ("", "no client"),
            ("ffff", "no client"),
        ):
            problem = self.failureResultOf(self.order("furl_revoke", client=name), ClientError)
            self.assertIn(words, str(problem.value))
        self.assertEqual(len(self.visits.here()), 2)
        self.successResultOf(self.order("furl_revoke", client="ABCD1"))
        self.assertEqual(len(self.visits.here()), 1)

    def test_engines_are_not_revoked(self):
        engine = hello(messages.ENGINE, uuid="e" * 32)
        session = self.visits.door(messages.ENGINE, self.cluster.engines_face.accept)(engine)
        link, there = connect_in_memory(self.pump, ClientEnd(b"e" * 16), session)
        session.attach(there)
        problem = self.failureResultOf(self.order("furl_revoke", client="eeee"), ClientError)
        self.assertIn("is an engine", str(problem.value))
        link.abort("the end")
        self.pump.run()

    def test_an_unknown_interface_is_told_with_those_that_there_are(self):
        problem = self.failureResultOf(self.order("furl_rotate", name="x"), ClientError)
        self.assertIn("there is no interface 'x'", str(problem.value))


class AuditTests(VisitCase):
    def setUp(self):
        folder = Path(temporary_path(self))
        folder.mkdir(mode=0o700)
        self.path = folder / "ipcontroller-audit.log"
        self.observer = AuditLog(self.path, 0, lambda: NOON)
        self.addCleanup(self.observer.close)
        super().setUp()

    def rows(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text("ascii").splitlines()]

    def submit(self, end: ClientEnd, method: str, *buffers: bytes) -> None:
        meta = messages.SubmitMeta(method, (0,), False, False).pack()
        end.link.send(frames.SUBMIT, 1, meta, join_inline(buffers))
        self.pump.run()

    def test_who_came_and_what_they_ran(self):
        end = self.connect()
        self.submit(end, "execute", messages.pack_json({"source": "a = 5\nprint(a)\x1b[2J"}))
        self.settle(end.ask("queue_status", targets=None))
        self.settle(end.ask("clear_queue", targets=[0]))
        end.close()
        self.pump.run()
        self.assertRaises(SecurityError, self.door, hello(messages.TASK))
        common = {"capability": "multiengine", "client": end.origin.hex()[:8], "label": "ann@there"}
        rows = self.rows()
        self.assertEqual([row["event"] for row in rows], ["came", "ran", "ran", "left", "refused"])
        for row in rows[:4]:
            self.assertEqual(row | common, row)
            self.assertTrue(row["time"].startswith("2008-01-1"))
        self.assertEqual((rows[0]["address"], rows[0]["pid"]), ("127.0.0.1:4711", 99))
        self.assertEqual(
            (rows[1]["method"], rows[1]["targets"], rows[1]["text"]),
            ("execute", [0], "a = 5\nprint(a)\x1b[2J"),
        )
        self.assertEqual((rows[2]["method"], rows[2]["text"]), ("clear_queue", '{"targets": [0]}'))
        self.assertIn("Task clients", rows[4]["reason"])
        self.assertTrue(self.path.read_text().replace("\n", "").isprintable())

    def test_names_are_told_and_long_code_is_cut(self):
        end = self.connect()
        self.submit(end, "execute", messages.pack_json({"source": "x = 5\n" * 20_000}))
        end.link.send(
            frames.SUBMIT,
            2,
            messages.SubmitMeta("push", None, False, False).pack(),
            join_inline([messages.pack_json({"names": ["a", "b"]}), b"", b""]),
        )
        self.pump.run()
        rows = self.rows()[1:]
        self.assertEqual(len(rows[0]["text"]), audit.LONGEST_TEXT)
        self.assertEqual((rows[1]["text"], rows[1]["targets"]), ("a, b", "all"))

    def test_tasks_are_counted_by_what_they_do(self):
        handled: list[Any] = []
        handler = self.observer.frames_of(
            "task", hello(messages.TASK), lambda *frame: handled.append(frame)
        )
        entries = [
            taskwire.Entry(number, taskwire.OptionsSpec(bytes(16), what=what).pack(), b"data")
            for number, what in enumerate(["f", "f", "g"])
        ]
        for parts, _ in taskwire.pack_submissions(entries):
            frames.dispatch(b"".join(parts), handler)
        self.assertEqual(len(handled), 1)
        self.assertEqual(
            [(row["method"], row["count"], row["text"]) for row in self.rows()],
            [("task", 2, "f"), ("task", 1, "g")],
        )

    def test_what_cannot_be_understood_is_left_to_the_session(self):
        handled: list[Any] = []
        handler = self.observer.frames_of("task", hello(), lambda *frame: handled.append(frame))
        for kind in (frames.SUBMIT, frames.ASK, taskwire.SUBMIT, 250):
            for payload in (b"", b"\xff" * 50, b"[]", b"{}", b'{"name": 5}'):
                handler(kind, 0, 1, payload, payload)
        self.assertEqual(len(handled), 20)

    def test_no_secret_gets_in(self):
        greeting = hello()
        end = self.connect(greeting)
        furl = f"pb://{'a' * 32}@tcp:127.0.0.1:1/{'s3cr3t' * 6}"
        self.submit(end, "execute", messages.pack_json({"source": f"tc = TaskClient('{furl}')"}))
        text = self.path.read_text()
        self.assertNotIn("s3cr3t", text)
        self.assertNotIn(greeting.secret, text)

    def test_it_is_its_owners_alone_and_stays_small(self):
        self.assertEqual(stat.S_IMODE(os.stat(self.path).st_mode), 0o600)
        small = AuditLog(self.path, 2000)
        self.addCleanup(small.close)
        for _ in range(100):
            small.came("task", hello(), "127.0.0.1:1")
        self.assertLess(self.path.stat().st_size, 3000)
        self.assertLessEqual(len(list(self.path.parent.iterdir())), 4)

    def test_a_link_in_its_place_is_refused(self):
        self.path.unlink()
        self.path.symlink_to(self.path.parent / "precious")
        with self.assertRaisesRegex(KernelError, "symbolic link"):
            AuditLog(self.path, 0)

    def test_a_log_that_cannot_be_written_is_told_once_and_stops_nobody(self):
        self.observer.close()
        end = self.connect()
        self.assertEqual(self.settle(end.ask("get_ids")), [0])
        self.assertTrue(end.connected)
