"""An asyncio service that has its requests answered by engines, and 200 clients at the same time.

Start engines with ``ipcluster -n 4``, then run ``python service.py [FIGURE]``.
"""

import asyncio
import json
import math
import random
import sys
import time

import matplotlib.pyplot as plt

from ipython1.kernel import asyncclient

REQUESTS = 200


def factorize(n):
    """Runs on an engine: the prime factors of a whole number."""
    if n < 2:
        raise ValueError(f"{n} has no prime factors")
    factors, divisor = [], 2
    while divisor * divisor <= n:
        while n % divisor == 0:
            factors.append(divisor)
            n //= divisor
        divisor += 1 + divisor % 2
    return factors + [n] * (n > 1)


class Service:
    """Each line that a client sends is a JSON request, and gets a line with the answer."""

    def __init__(self, tc):
        self.tc = tc
        self.waiting = self.most_waiting = 0

    async def serve(self, reader, writer):
        while line := await reader.readline():
            self.waiting += 1
            self.most_waiting = max(self.most_waiting, self.waiting)
            try:
                # While an engine works on this, the loop serves other clients.
                answer = {"factors": await self.tc.submit(factorize, json.loads(line)["factorize"])}
            except Exception as problem:  # the client's mistake, or what an engine raised
                answer = {"error": f"{type(problem).__name__}: {problem}"}
            self.waiting -= 1
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
        writer.close()


async def ask(port, request):
    """One client: its answer, when it asked, and when it got the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    asked = time.monotonic()
    writer.write(json.dumps(request).encode() + b"\n")
    answer = json.loads(await reader.readline())
    answered = time.monotonic()
    writer.close()
    await writer.wait_closed()
    return answer, asked, answered


def plot(times, figure):
    first = min(asked for asked, _ in times)
    latencies = sorted(1000 * (answered - asked) for asked, answered in times)
    ends = sorted(answered - first for _, answered in times)
    counts = range(1, len(times) + 1)
    fig, (left, right) = plt.subplots(1, 2, figsize=(7, 4), dpi=120, layout="constrained")
    left.hist(latencies, bins=25, color="tab:blue")
    left.axvline(latencies[len(latencies) // 2], color="black", ls="--", label="median")
    left.set(xlabel="latency (ms)", ylabel="requests", title="From request to answer")
    left.legend()
    right.step(ends, counts, where="post", color="tab:orange")
    right.set(xlabel="time since the first request (s)", ylabel="answers")
    right.set(xlim=(0, None), ylim=(0, None))
    right.set_title(f"{len(times) / ends[-1]:.0f} answers per second")
    fig.savefig(figure)


async def main(figure="service.png"):
    open(figure, "ab").close()  # fails before the work, not after it
    rng = random.Random(4)
    numbers = [rng.randrange(10**8, 10**10) for _ in range(REQUESTS)]
    tc = await asyncclient.get_task_client()
    service = Service(tc)
    async with await asyncio.start_server(
        service.serve, "127.0.0.1", 0, backlog=REQUESTS
    ) as server:
        port = server.sockets[0].getsockname()[1]
        asked = await asyncio.gather(*(ask(port, {"factorize": n}) for n in numbers))
        right = [
            math.prod(answer["factors"]) == n
            for n, (answer, *_) in zip(numbers, asked, strict=True)
        ]
        print(f"{len(asked)} answers, {sum(right)} right")
        print("several requests waited at a time:", service.most_waiting > 1)
        for request in ({"factorize": 5040}, {"factorize": 1}, {"solve": "x = x"}):
            answer, *_ = await ask(port, request)
            print(request, "->", answer)
    await tc.close()
    plot([times for _, *times in asked], figure)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
