"""The control connection of a cluster, both sides."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import selectors
import socket
import stat
import threading
import time
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial import unittest

from ipython1 import system
from ipython1.kernel.basics.error import (
    ClusterError,
    ConnectionError,
    InvalidEngineID,
    KernelError,
    ProtocolError,
    ResultNotCompleted,
)
from ipython1.kernel.clusters.outcomes import check_started
from ipython1.kernel.clusters.progress import StartProgress
from ipython1.kernel.clusters.server import Orders
from ipython1.kernel.host import control
from ipython1.kernel.host.control import (
    LINE_LIMIT,
    BlockingControl,
    choose_socket_path,
    connect_control,
    error_from_wire,
    error_to_wire,
    remove_socket,
)
from ipython1.kernel.host.controlserver import ControlServer
from ipython1.kernel.launchers.interfaces import Unit


class FakeService:
    """Records orders."""

    def __init__(self) -> None:
        self.orders: list[Any] = []
        self.answer: Deferred[Any] = Deferred()
        self.progress: StartProgress | None = None
        self.queue_text = ""

    def stop(self, grace: float | None) -> None:
        self.orders.append(("stop", grace))

    async def remove_engines(self, ids: list[int], finish: float) -> None:
        self.orders.append(("remove", ids))
        await self.answer

    def signal(self, ids: list[int] | None, number: int) -> None:
        self.orders.append(("signal", ids, number))

    async def add_engines(self, count: int, config: Any) -> StartProgress:
        raise InvalidEngineID(f"no {count}")


class ServerTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        self.service: Any = FakeService()
        self.clock = Clock()
        self.orders = Orders(self.service, lambda base, words, directory: base, self.clock)
        self.server = ControlServer(self.orders.all())
        self.connection = self.server.buildProtocol(None)
        self.transport = StringTransport()
        self.connection.makeConnection(self.transport)

    def ask(self, **content: Any) -> None:
        self.connection.dataReceived(json.dumps(content).encode() + b"\n")

    def answers(self) -> list[dict[str, Any]]:
        lines = self.transport.value().splitlines()
        self.transport.clear()
        return [json.loads(line) for line in lines]

    def test_orders_are_carried_out_and_answered_as_they_finish(self) -> None:
        self.ask(id=1, do="remove", ids=[3])
        self.ask(id=2, do="signal", ids=None, number="USR1")
        self.assertEqual(self.answers(), [{"id": 2, "value": None}])
        self.service.answer.callback(None)
        self.assertEqual(self.answers(), [{"id": 1, "value": None}])
        self.assertEqual(self.service.orders, [("remove", [3]), ("signal", None, 10)])

    def test_errors_are_answered(self) -> None:
        self.ask(id=1, do="add", count=3)
        self.ask(id=2, do="add")
        self.ask(id=3, do="signal", ids=[1], number="NONSENSE")
        self.ask(id=4, do="__init__")
        self.ask(id=5, do="set_started", outcome=None)
        self.ask(id=6)
        names = {each["id"]: each["error"][0] for each in self.answers()}
        self.assertEqual(
            names,
            {
                1: "InvalidEngineID",
                2: "TypeError",
                3: "ValueError",
                4: "ProtocolError",
                5: "ProtocolError",
                6: "ProtocolError",
            },
        )

    def test_what_is_no_request_ends_the_connection(self) -> None:
        for data in (b"GET / HTTP/1.1\n", b"[]\n", b"x" * (LINE_LIMIT + 2)):
            connection = self.server.buildProtocol(None)
            transport = StringTransport()
            connection.makeConnection(transport)
            connection.dataReceived(data)
            self.assertTrue(transport.disconnecting)

    def test_everyone_who_asks_learns_of_the_start(self) -> None:
        self.ask(id=1, do="started")
        self.assertEqual(self.answers(), [])
        progress = StartProgress()
        progress.add([Unit("engine-0", 1, (0,)), Unit("engine-1", 1, (1,))])
        progress.all_added()
        progress.ids_changed([0])
        progress.unit_ended("engine-1", "exited with status 1", ["last words"])
        self.orders.set_started(progress)
        self.ask(id=2, do="started")
        first, second = self.answers()
        self.assertEqual(first["value"], second["value"])
        self.assertEqual((first["value"]["ids"], first["value"]["outcome"]), ([0], "partial"))
        self.assertEqual(first["value"]["failures"][0]["lines"], ["last words"])

    def test_who_waits_for_the_start_may_set_a_limit(self) -> None:
        progress = self.service.progress = StartProgress()
        progress.add([Unit("engine-0", 1, (0,)), Unit("engine-1", 1, (1,))])
        progress.all_added()
        self.service.queue_text = "2 (JobHeldUser)"
        self.ask(id=1, do="started")
        self.ask(id=2, do="started", until=time.time() + 5.0)
        self.clock.advance(4.0)
        self.assertEqual(self.answers(), [])
        self.clock.advance(2.0)
        (answer,) = self.answers()
        self.assertEqual(answer["id"], 2)
        value = answer["value"]
        self.assertEqual((value["outcome"], value["queue"]), ("waiting", "2 (JobHeldUser)"))
        with self.assertRaisesRegex(
            ResultNotCompleted,
            r"^no engine was usable after 5 s, .*in the queue: 2 \(JobHeldUser\)$",
        ):
            check_started(value, 5.0)
        progress.ids_changed([0, 1])
        self.orders.set_started(progress)
        self.assertEqual([each["id"] for each in self.answers()], [1])

    def test_only_those_who_watch_get_events(self) -> None:
        self.server.tell({"event": "say", "text": "a"})
        self.ask(id=1, do="watch")
        self.server.tell({"event": "say", "text": "b"})
        self.assertEqual([each.get("text") for each in self.answers()], [None, "b"])


class ClientTests(unittest.SynchronousTestCase):
    def setUp(self) -> None:
        ours, self.other = socket.socketpair()
        self.addCleanup(self.other.close)
        self.events: list[Any] = []
        self.control = BlockingControl(ours, self.events.append)
        self.addCleanup(self.control.close)

    def answer(self, *contents: Any) -> None:
        for content in contents:
            data = content if isinstance(content, bytes) else json.dumps(content).encode() + b"\n"
            self.other.sendall(data)

    def test_answers_and_events(self) -> None:
        self.answer({"event": "say", "text": "x"}, {"id": 7, "value": 0}, {"id": 1, "value": [1]})
        self.assertEqual(self.control.call("wait", 5.0, count=1), [1])
        self.assertEqual(self.events, [{"event": "say", "text": "x"}])
        sent = json.loads(self.other.recv(1000))
        self.assertEqual(sent, {"id": 1, "do": "wait", "count": 1})

    def test_errors_come_as_they_were_raised(self) -> None:
        for problem in (
            ClusterError("a"),
            InvalidEngineID("b"),
            ResultNotCompleted("c"),
            TypeError("d"),
        ):
            found = error_from_wire(json.loads(json.dumps(error_to_wire(problem))))
            self.assertEqual((type(found), str(found)), (type(problem), str(problem)))
        self.assertIsInstance(error_from_wire(error_to_wire(RuntimeError("e"))), KernelError)
        self.assertIsInstance(error_from_wire(None), ProtocolError)
        self.answer({"id": 1, "error": ["ClusterError", "no"]})
        self.assertRaises(ClusterError, self.control.call, "stop", 5.0)

    def test_no_answer_in_time(self) -> None:
        self.assertRaises(ResultNotCompleted, self.control.call, "status", 0.05)

    def test_a_cluster_that_ends(self) -> None:
        thread = threading.Thread(target=lambda: (self.other.recv(1000), self.other.close()))
        thread.start()
        self.assertRaises(ConnectionError, self.control.call, "status", 5.0)
        thread.join()
        self.assertTrue(self.control.wait_closed(1.0))
        self.assertRaises(ConnectionError, self.control.call, "status", 5.0)

    def asked(self, do: str, found: list[Any]) -> threading.Thread:
        """Ask in a thread of its own; returns when the other side has the request."""

        def ask() -> None:
            try:
                found.append(self.control.call(do, None))
            except KernelError as problem:
                found.append(problem)

        thread = threading.Thread(target=ask, daemon=True)
        thread.start()
        self.other.settimeout(30.0)
        self.assertEqual(json.loads(self.other.recv(1000))["do"], do)
        return thread

    def test_several_threads_ask_at_the_same_time(self) -> None:
        found: list[Any] = []
        one, two, three = (self.asked(do, found) for do in ("wait", "add", "status"))
        self.answer({"id": 2, "value": "two"})
        two.join(30.0)
        self.answer({"id": 1, "value": "one"})
        one.join(30.0)
        self.answer({"id": 3, "value": "three"})
        three.join(30.0)
        self.assertEqual(found, ["two", "one", "three"])

    def test_a_time_is_kept_while_another_thread_reads(self) -> None:
        found: list[Any] = []
        thread = self.asked("wait", found)
        self.assertRaises(ResultNotCompleted, self.control.call, "status", 0.05)
        self.answer({"id": 2, "value": "late"}, {"id": 1, "value": "one"})
        thread.join(30.0)
        self.assertEqual(found, ["one"])

    def test_closing_ends_what_other_threads_wait_for(self) -> None:
        found: list[Any] = []
        threads = [self.asked("wait", found), self.asked("add", found)]
        self.control.close()
        for thread in threads:
            thread.join(30.0)
        self.assertEqual([type(each) for each in found], [ConnectionError, ConnectionError])

    def test_closing_while_a_thread_is_about_to_wait(self) -> None:
        """It does not wait for what is opened next, which may get the same descriptor."""
        case = self

        class Late(control.SELECTOR):  # type: ignore[misc, name-defined, valid-type]
            def select(self, timeout: float | None = None) -> Any:
                if any(key.events == selectors.EVENT_READ for key in self.get_map().values()):
                    case.control.close()
                    for end in socket.socketpair():
                        case.addCleanup(end.close)
                return super().select(timeout)

        self.patch(control, "SELECTOR", Late)
        self.assertRaises(ConnectionError, self.control.call, "wait", 20.0)

    def test_a_program_with_many_open_files(self) -> None:
        if system.PORTABLE:
            raise unittest.SkipTest("select, which other systems have without this limit")
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < 2048:
            raise unittest.SkipTest("this system does not allow that many")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 2048), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        ours, self.other = socket.socketpair()
        self.addCleanup(self.other.close)
        high = fcntl.fcntl(ours.fileno(), fcntl.F_DUPFD_CLOEXEC, 2000)
        ours.close()
        control = BlockingControl(socket.socket(fileno=high))
        self.addCleanup(control.close)
        self.answer({"id": 1, "value": 3})
        self.assertEqual(control.call("status", 5.0), 3)

    def test_nonsense(self) -> None:
        self.answer(b"nonsense\n")
        self.assertRaises(ProtocolError, self.control.call, "status", 5.0)


class SocketPathTests(unittest.SynchronousTestCase):
    def test_a_long_path_gets_a_private_directory_elsewhere(self) -> None:
        if system.PORTABLE:
            raise unittest.SkipTest("there are no Unix sockets")
        short = Path("/tmp/x/ipcluster.sock")
        self.assertEqual(choose_socket_path(short), short)
        wanted = Path("/tmp") / ("x" * 120) / "ipcluster.sock"
        path = choose_socket_path(wanted)
        self.assertEqual(stat.S_IMODE(os.stat(path.parent).st_mode), 0o700)
        listener = socket.socket(socket.AF_UNIX)
        self.addCleanup(listener.close)
        listener.bind(str(path))
        listener.listen()
        connect_control(str(path)).close()
        remove_socket(path, wanted)
        self.assertFalse(path.parent.exists())
        self.assertRaises(ConnectionError, connect_control, str(path))
