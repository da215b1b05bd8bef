"""Functions that make clients, and that make engines known to joblib; each loads only what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient
    from ipython1.kernel.clients.taskclient import TaskClient


def get_multiengine_client(furl_or_file: Any = "", timeout: float = 10.0) -> MultiEngineClient:
    """A blocking client of the MultiEngine interface.

    :param furl_or_file: as for :class:`MultiEngineClient`.
    :param timeout: seconds within which the connection must be made.
    :raises KernelError: as :class:`MultiEngineClient` does.
    """
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient

    return MultiEngineClient(furl_or_file, timeout)


def get_task_client(furl_or_file: Any = "", timeout: float = 10.0) -> TaskClient:
    """A blocking client of the Task interface.

    :param furl_or_file: as for :class:`TaskClient`.
    :param timeout: seconds within which the connection must be made.
    :raises KernelError: as :class:`TaskClient` does.
    """
    from ipython1.kernel.clients.taskclient import TaskClient

    return TaskClient(furl_or_file, timeout)


def register_joblib_backend(
    client: Any = None, name: str = "ipython1", make_default: bool = False
) -> None:
    """Make engines known to joblib under a name.

    :param client: a ``MultiEngineClient`` or ``TaskClient``; None for a ``MultiEngineClient`` of the default cluster,
        made when the backend is first used.
    :param name: what ``joblib.parallel_config`` calls them.
    :param make_default: use them wherever no other backend is named.
    :raises ImportError: when joblib is not installed.
    :raises TypeError: when ``client`` is something else.
    """
    from ipython1.kernel.clients import joblibbackend

    joblibbackend.register_joblib_backend(client, name, make_default)
