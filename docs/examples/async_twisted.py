"""A Twisted program that uses engines, written with coroutines; it runs the reactor itself."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, task

from ipython1.kernel import asyncclient
from ipython1.kernel.error import CompositeError


async def main(reactor: Any) -> None:
    mec = await asyncclient.get_multiengine_client()
    print("engines:", await mec.get_ids())

    # Every method returns a Deferred that fires with the blocking method's result.
    await mec.push({"base": 3})
    results = await mec.execute("print(base ** 2)")
    print("printed:", [result["stdout"] for result in results])

    # Calls run at the same time if you do not await each one first.
    squares = mec.map(lambda x: x * x, range(8))
    doubles = mec.map(lambda x: x + x, range(8))
    print("maps:", await defer.gatherResults([squares, doubles]))

    # With block=False the Deferred fires when the command is queued.
    pending = await mec.execute("import time; time.sleep(0.2); done = True", block=False)
    print("ready at once:", pending.ready)
    await pending.r
    print("pulled:", await mec.pull("done"))

    # A failure is an errback, or an exception if you await the Deferred.
    try:
        await mec.execute("1/0", targets=0)
    except CompositeError as problem:
        print("failed:", problem.exceptions[0])

    await mec.close()


if __name__ == "__main__":
    task.react(lambda reactor: defer.ensureDeferred(main(reactor)))
