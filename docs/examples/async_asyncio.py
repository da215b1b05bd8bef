"""An asyncio program that uses engines."""

from __future__ import annotations

import asyncio

from ipython1.kernel import asyncclient
from ipython1.kernel.error import CompositeError


async def main() -> None:
    mec = await asyncclient.get_multiengine_client()
    print("engines:", await mec.get_ids())

    # Several calls at the same time, as with any awaitable.
    squares, doubles = await asyncio.gather(
        mec.map(lambda x: x * x, range(8)), mec.map(lambda x: x + x, range(8))
    )
    print("maps:", squares, doubles)

    pending = await mec.execute("import time; time.sleep(0.2); n = 7", block=False)
    print("ready at once:", pending.ready)
    results = await asyncio.wait_for(pending.get_result(), timeout=10)
    print("engines done:", len(results))

    pending = await mec.map(lambda x: x * x, range(8), block=False)
    print("one by one:", [square async for square in pending])

    try:
        await mec.execute("1/0", targets=0)
    except CompositeError as problem:
        print("failed:", problem.exceptions[0])

    await mec.close()


asyncio.run(main())
