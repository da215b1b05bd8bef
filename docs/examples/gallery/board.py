"""A board in the controller, on which all engines of a search write the best that they have found.

The controller's side of ``custom_interface.py``.  As everything that the controller imports, it unpickles nothing.
"""

import math
import time

from foolscap.api import Referenceable
from twisted.python.components import registerAdapter
from zope.interface import Interface, implementer

from ipython1.kernel.controllerservice import IControllerBase
from ipython1.kernel.multienginefc import IFCClientInterface

LONGEST_NAME = 50
MOST_ENTRIES = 1000


class IBoard(Interface):
    """A board for numbers, of which the smallest is the best."""

    def offer(number, name):
        """Write a number down if it is the best so far, and return the best."""


@implementer(IBoard)
class Board:
    """Adapts a controller to :class:`IBoard`; of the controller itself, it needs nothing."""

    def __init__(self, controller):
        self.best = math.inf
        self.entries = []

    def offer(self, number, name):
        if number < self.best:
            self.best = number
            self.entries = [*self.entries, (time.time(), number, name)][-MOST_ENTRIES:]
        return self.best


class IFCBoard(IFCClientInterface):
    """The face of :class:`IBoard`: what Foolscap calls."""


@implementer(IFCBoard)
class FCBoard(Referenceable):
    """Adapts an :class:`IBoard` to Foolscap: who has the FURL can call the methods ``remote_...``."""

    def __init__(self, board):
        self.board = board

    def remote_offer(self, number, name):
        return self.board.offer(float(number), str(name)[:LONGEST_NAME])

    def remote_entries(self):
        return self.board.entries


registerAdapter(Board, IControllerBase, IBoard)
registerAdapter(FCBoard, IBoard, IFCBoard)
