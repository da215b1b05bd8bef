"""A joblib backend that runs on engines."""

from ipython1.kernel.clients.joblibbackend import ClusterBackend, register_joblib_backend

__all__ = [
    "ClusterBackend",
    "register_joblib_backend",
]
