"""What the engines of a ``Cluster`` have from the beginning, and again when they are restarted."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ipython1.kernel.calls.requests import check_namespace
from ipython1.kernel.host.restorefile import NAMES, RESTORE_FILE, SOURCE, write_restore
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.objects.commands import PUSH
from ipython1.kernel.objects.serialize import dumps
from ipython1.kernel.wire.payload import pack_sizes

Restored = str | Mapping[str, Any]
"""Source text to run, or objects to set by their names."""


def check_restored(what: Restored | None) -> Restored | None:
    """Return ``what`` if engines can be prepared by it.

    :raises TypeError, ValueError: if it is neither source text nor a mapping of names that can be set.
    """
    if what is None or isinstance(what, str):
        return what
    if not isinstance(what, Mapping):
        raise TypeError(f"restore must be source text or a dict of names, not {what!r}")
    return check_namespace(what)


def write_restored(files: ClusterFiles, what: Restored) -> None:
    """Write the restore file of a cluster, with the objects as they are now.

    :raises SerializationError: if an object cannot be pickled.
    :raises SecurityError: if it cannot be written.
    """
    path = files.security_file(RESTORE_FILE)
    if isinstance(what, str):
        write_restore(path, SOURCE, what.encode())
        return
    buffers = PUSH.pack({name: dumps(value) for name, value in what.items()})
    write_restore(path, NAMES, b"".join((pack_sizes(buffers), *buffers)))
