"""One message in Foolscap's codec and in ours, and there and back over a TLS connection of one process."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

from foolscap.broker import Broker
from foolscap.referenceable import Referenceable, TubRef
from twisted.internet import defer, reactor, task

from ipython1.kernel.host.certificates import make_certificate
from ipython1.kernel.tub import fastbroker, tubs
from ipython1.kernel.tub.fastbroker import FastBroker
from tests.benchmarks.workload import Clock, Plan, seconds

SIZES = (100, 4096, 262144)
SEGMENT = 16384
"""The number of bytes that TLS delivers at a time."""

KINDS = {"codec": FastBroker, "stock": Broker}


def measure(clock: Clock) -> None:
    # In a process of its own, which may run a reactor in its main thread.
    command = [sys.executable, "-P", "-m", "tests.benchmarks.codec", clock.plan.to_json()]
    subprocess.run(command, check=True)


class Sink:
    """A transport that keeps the data written to it."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.write = self.pieces.append

    def take(self) -> bytes:
        data = b"".join(self.pieces)
        self.pieces.clear()
        return data


class Target(Referenceable):
    """Sends each batch back, once it has a peer to send it to."""

    def __init__(self) -> None:
        self.peer: Any = None
        self.waiting: defer.Deferred[bytes] | None = None

    def remote_deliver(self, batch: bytes) -> None:
        if self.peer is not None:
            fastbroker.send_batch(self.peer, batch)
        elif self.waiting is not None:
            waiting, self.waiting = self.waiting, None
            waiting.callback(batch)

    def remote_attach(self, peer: Any) -> None:
        self.peer = peer

    def remote_echo(self, batch: bytes) -> bytes:
        return batch


def make_broker(kind: type[Broker]) -> tuple[Any, Sink]:
    sink = Sink()
    broker: Any = kind(
        TubRef("a" * 32), {"banana-decision-version": 3, "initial-vocab-table-index": 1}
    )
    broker.makeConnection(sink)
    # Deliver at once, so that no later turn of the reactor is measured.
    broker.scheduleCall = lambda call, ready: broker._doCall(call)
    return broker, sink


def codec(clock: Clock, size: int, repeat: int) -> None:
    """Both codecs, without a network."""
    batch = bytes(size)
    for name, kind in KINDS.items():
        sender, sent = make_broker(kind)
        receiver, _ = make_broker(kind)
        receiver.getTrackerForMyReference(1, Target())
        reference = sender.getTrackerForYourReference(1).getRef()
        messages: list[list[bytes]] = []

        def send(reference: Any = reference, sent: Sink = sent, messages: Any = messages) -> None:
            fastbroker.send_batch(reference, batch)
            # TLS also joins data that is written in pieces.
            messages.append([sent.take()])

        clock.write(f"{name}_write", times(send, repeat), x=size)
        for message in messages:
            (data,) = message
            message[:] = [data[at : at + SEGMENT] for at in range(0, len(data), SEGMENT)]
        following = iter(messages)

        def receive(receiver: Broker = receiver, following: Any = following) -> None:
            for segment in next(following):
                receiver.dataReceived(segment)

        clock.write(f"{name}_read", times(receive, repeat), x=size)


def times(action: Callable[[], object], repeat: int) -> list[float]:
    return [seconds(action) * 1e6 for _ in range(repeat)]


async def loopback(clock: Clock, size: int, repeat: int) -> None:
    """Both ends in this process."""
    server = tubs.make_tub(make_certificate())
    client = tubs.make_tub()
    try:
        await tubs.listen(server, "127.0.0.1", 0)
        furl = tubs.register(server, Target())
        reference = await tubs.connect(client, furl, 10, reactor)
        own = Target()
        await reference.callRemote("attach", own)
        batch = bytes(size)
        calls, batches = [], []
        for _ in range(repeat):
            begin = time.perf_counter()
            await reference.callRemote("echo", batch)
            calls.append((time.perf_counter() - begin) * 1e6)
            begin = time.perf_counter()
            arrived: defer.Deferred[bytes] = defer.Deferred()
            own.waiting = arrived
            fastbroker.send_batch(reference, batch)
            await arrived
            batches.append((time.perf_counter() - begin) * 1e6)
        clock.write("codec_round_trip", batches, x=size)
        clock.write("stock_round_trip", calls, x=size)
    finally:
        await tubs.close(client)
        await tubs.close(server)


async def main(plan: Plan) -> None:
    clock = Clock(plan, dict)
    repeat = plan.times(300)
    for size in SIZES:
        codec(clock, size, repeat)
    for size in SIZES:
        await loopback(clock, size, repeat)


if __name__ == "__main__":
    task.react(lambda _: defer.Deferred.fromCoroutine(main(Plan.from_json(sys.argv[1]))))
