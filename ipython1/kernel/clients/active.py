"""The client that the magics of an IPython session use."""

from __future__ import annotations

from typing import Any

from ipython1.kernel.basics.error import ClientError
from ipython1.notebook.frontend import session_shell


class ActiveClient:
    """Holds the client that was activated last; None before that."""

    def __init__(self) -> None:
        self.client: Any = None


active = ActiveClient()


def activate(client: Any) -> None:
    """Make ``client``, a ``MultiEngineClient``, the one that the magics of this session use.

    :raises ClientError: outside of IPython.
    """
    shell = session_shell()
    if shell is None:
        raise ClientError(
            "activate() works only in IPython and notebooks; elsewhere use execute() and the other methods"
        )
    active.client = client
    # The magics import the client's class, so the client has IPython load them.
    shell.extension_manager.load_extension("ipython1")
