"""Another name of :mod:`ipython1.kernel.asyncclient`."""

from ipython1.kernel.asyncclient import *  # noqa: F403
