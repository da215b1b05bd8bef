"""The active client, which the magics of an IPython session use."""

from __future__ import annotations

from typing import Any

from ipython1.kernel.basics.error import ClientError
from ipython1.notebook.frontend import session_shell


class ActiveClient:
    """Holds the client that was activated last; None if there was none."""

    def __init__(self) -> None:
        self.client: Any = None


active: ActiveClient = ActiveClient()


def activate(client: Any) -> None:
    """Make ``client``, a ``MultiEngineClient``, the active client of this session.

    :raises ClientError: outside IPython.
    """
    shell = session_shell()
    if shell is None:
        raise ClientError(
            "activate() works only in IPython and notebooks; elsewhere use execute() and the other methods"
        )
    active.client = client
    # The magics import the client's class, so IPython loads them here, as an extension.
    shell.extension_manager.load_extension("ipython1")
