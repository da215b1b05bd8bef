"""Something that blocks, in a thread of its own, for code that may not.

Twisted's thread pool would not do: it starts with ``reactor.run()``, which nobody calls where asyncio runs the loop.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure


def in_own_thread(function: Callable[..., Any], *args: Any) -> Deferred[Any]:
    """Call ``function`` in a new thread; the Deferred fires, in the reactor's thread, with its result or error."""
    from twisted.internet import reactor

    result: Deferred[Any] = Deferred()

    def run() -> None:
        tell: Callable[[Any], None] = result.callback
        try:
            outcome = function(*args)
        except BaseException:
            tell, outcome = result.errback, Failure()
        reactor.callFromThread(tell, outcome)  # type: ignore[attr-defined]

    threading.Thread(target=run, name="ipython1-blocking-call", daemon=True).start()
    return result
