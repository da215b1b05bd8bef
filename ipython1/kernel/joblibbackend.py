"""A joblib backend that runs on engines."""

from ipython1.kernel.clients.factories import register_joblib_backend
from ipython1.kernel.clients.joblibbackend import ClusterBackend

__all__ = [
    "ClusterBackend",
    "register_joblib_backend",
]
