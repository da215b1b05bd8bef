"""The users' side of the board, for the program ``custom_interface.py`` and its engines alike."""

from ipython1.kernel import tubs
from ipython1.kernel.twistedutil import blockingCallFromThread, reactor_in_thread


class BoardClient:
    """A connection to the board.

    :param furl: the capability that the controller has written to ``ipcontroller-board.furl``.
    :param name: what this party signs its records with.
    """

    def __init__(self, furl, name):
        reactor_in_thread.start()
        self.name = name
        self.reference = blockingCallFromThread(self._connect, furl)

    async def _connect(self, furl):
        return await tubs.connect(tubs.make_tub(), furl, timeout=10)

    def offer(self, number):
        """Say how short a tour is; the answer is the shortest that anybody has found."""
        return blockingCallFromThread(self.reference.callRemote, "offer", number, self.name)

    def entries(self):
        """Each record: when, how short, and by whom."""
        return blockingCallFromThread(self.reference.callRemote, "entries")
