"""Functions that create clients and register the joblib backend; each imports only what it needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient
    from ipython1.kernel.clients.taskclient import TaskClient


def get_multiengine_client(furl_or_file: Any = "", timeout: float = 10.0) -> MultiEngineClient:
    """Connect a blocking client to the MultiEngine interface.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty (default) for the default
        FURL file.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :returns: a :class:`MultiEngineClient`.
    :raises KernelError: if it cannot connect, as for :class:`MultiEngineClient`.
    """
    from ipython1.kernel.clients.multiengineclient import MultiEngineClient

    return MultiEngineClient(furl_or_file, timeout)


def get_task_client(furl_or_file: Any = "", timeout: float = 10.0) -> TaskClient:
    """Connect a blocking client to the Task interface.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty (default) for the default
        FURL file.
    :param timeout: the maximum time to connect, in seconds; default: 10.
    :returns: a :class:`TaskClient`.
    :raises KernelError: if it cannot connect, as for :class:`TaskClient`.
    """
    from ipython1.kernel.clients.taskclient import TaskClient

    return TaskClient(furl_or_file, timeout)


def register_joblib_backend(
    client: Any = None, name: str = "ipython1", make_default: bool = False
) -> None:
    """Register engines as a joblib backend.

    :param client: a ``MultiEngineClient`` or ``TaskClient``; default: a ``MultiEngineClient`` of the default cluster,
        created at the first use of the backend.
    :param name: the name of the backend in ``joblib.parallel_config``; default: ``'ipython1'``.
    :param make_default: whether to use the backend wherever no other one is named; default: False.
    :raises ImportError: if joblib is not installed.
    :raises TypeError: if ``client`` is anything else.
    """
    from ipython1.kernel.clients.joblibbackend import register_backend

    if client is not None and not hasattr(client, "executor"):
        raise TypeError(f"client must be a MultiEngineClient or a TaskClient, not {client!r}")
    register_backend(client, name, make_default)
