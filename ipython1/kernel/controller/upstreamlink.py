"""A gateway's connection to the controller behind it, by Foolscap."""

from __future__ import annotations

import os
import uuid
from typing import Any, Final

from twisted.internet.defer import Deferred

from ipython1.kernel.basics.error import ConnectionError, FileTimeoutError
from ipython1.kernel.controller.config import UpstreamAddress
from ipython1.kernel.host.furl import Furl
from ipython1.kernel.host.hosts import host_identity, user_label
from ipython1.kernel.host.security import wait_for_furl
from ipython1.kernel.tub import tubs
from ipython1.kernel.tub.gate import register
from ipython1.kernel.wire import messages
from ipython1.kernel.wire.baselink import FrameReceiver
from ipython1.kernel.wire.link import FrameLink, TurnFlusher

TIMEOUT: Final = 20.0
"""Seconds in which the upstream must answer."""


class _Receiver:
    """Passes on what comes, and closes the Tub when the link is lost."""

    def __init__(self, receiver: FrameReceiver, tub: Any) -> None:
        self.frame_received = receiver.frame_received
        self._receiver = receiver
        self._tub = tub

    def link_lost(self, reason: str) -> None:
        self._receiver.link_lost(reason)
        Deferred.fromCoroutine(tubs.close(self._tub)).addErrback(lambda failure: None)


class UpstreamLinks:
    """Opens the connections.

    :param flusher: that of the controller's other links.
    """

    def __init__(self, address: UpstreamAddress, flusher: TurnFlusher, reactor: Any) -> None:
        self._address = address
        self._flusher = flusher
        self._reactor = reactor
        self._uuid = uuid.uuid4().hex
        self._secret = messages.new_secret()

    async def open(self, receiver: FrameReceiver) -> FrameLink:
        """Connect and register.

        :raises ConnectionError: if the upstream cannot be reached.
        :raises KernelError: if it refuses.
        """
        furl = await self._furl()
        hello = messages.Hello(
            uuid=self._uuid,
            pid=os.getpid(),
            host=host_identity(),
            role=messages.GATEWAY,
            secret=self._secret,
            label=user_label(),
        )
        tub = tubs.make_tub()
        try:
            gate = await tubs.connect(
                tub, furl, TIMEOUT, self._reactor, source=self._address.source
            )
            link = FrameLink(self._flusher, _Receiver(receiver, tub))
            await register(gate, hello, link, TIMEOUT, self._reactor)
        except BaseException:
            await tubs.close(tub)
            raise
        return link

    async def _furl(self) -> Furl:
        if self._address.furl is not None:
            return self._address.furl
        assert self._address.file is not None
        try:
            return await wait_for_furl(self._address.file, TIMEOUT, self._reactor)
        except FileTimeoutError as problem:
            raise ConnectionError(str(problem)) from None
