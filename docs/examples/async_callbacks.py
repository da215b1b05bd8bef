"""The same client in the classic style: Deferreds with callbacks, in a program that runs the reactor itself."""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.python.failure import Failure

from ipython1.kernel import asyncclient


def connected(mec: Any) -> Any:
    deferred = mec.map(lambda x: x**10, range(4))
    deferred.addCallback(print)
    deferred.addBoth(lambda result: mec.close().addCallback(lambda _: result))
    return deferred


def failed(failure: Failure) -> None:
    print("failed:", failure.getErrorMessage())


def begin() -> None:
    deferred = asyncclient.get_multiengine_client()
    deferred.addCallback(connected)
    deferred.addErrback(failed)
    deferred.addBoth(lambda _: reactor.stop())  # type: ignore[attr-defined]


reactor.callWhenRunning(begin)  # type: ignore[attr-defined]
reactor.run()  # type: ignore[attr-defined]
