"""The blocking client in an asyncio program, which awaits its PendingResults."""

from __future__ import annotations

import asyncio

from ipython1.kernel import client


async def main() -> None:
    mec = client.MultiEngineClient()
    mec.block = False

    sums = mec.execute("import time; time.sleep(0.2); total = sum(range(1000))")
    squares = mec.map(lambda x: x * x, range(8))
    print("squares:", await squares)
    await sums
    print("totals:", await mec.pull("total"))

    # as_completed, wait and similar functions accept them, wrapped as asyncio futures.
    pendings = [mec.execute(f"time.sleep({2 - i} * 0.5)", targets=i) for i in range(3)]
    for finished in asyncio.as_completed(map(asyncio.wrap_future, pendings)):
        print("finished on engine", (await finished)[0]["id"])


asyncio.run(main())
