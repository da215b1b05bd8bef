"""The file that tells the engines of a cluster what to run or set before they are offered to clients.

It is text, so that a nanny on another host can write it: a line that names the version and the kind, and the content
in base64.  Engines run or unpickle it, so it is private, as FURLs are.
"""

from __future__ import annotations

import base64
import binascii
import os
import sys
from pathlib import Path
from typing import Final

from ipython1.kernel.basics.error import ClientError, SecurityError
from ipython1.kernel.host.mountedfiles import read_named_if_there
from ipython1.kernel.host.private_files import write_private

RESTORE_FILE: Final = "ipcluster.restore"
"""The default cluster's name for the file."""

SOURCE: Final = "source"
"""The content is source text."""
NAMES: Final = "names"
"""The content is what the command ``push`` takes: the sizes of buffers, and the buffers."""

_HEAD: Final = "ipython1 restore 1"


def write_restore(path: str | os.PathLike[str], kind: str, content: bytes) -> None:
    """Write the file.

    :raises SecurityError: if it cannot be written.
    """
    write_private(path, f"{_HEAD} {kind}\n".encode() + base64.b64encode(content) + b"\n")


def read_restore(path: str | os.PathLike[str]) -> tuple[str, bytes]:
    """Return the kind and the content of the file.

    :raises ClientError: if it is damaged.
    :raises SecurityError: if it is missing, or open to others.
    """
    data = read_named_if_there(path, "restore file", limit=sys.maxsize)
    if data is None:
        raise SecurityError(f"the restore file {path} does not exist")
    head, _, text = data.partition(b"\n")
    kind = head.decode(errors="replace").removeprefix(f"{_HEAD} ")
    try:
        if kind not in (SOURCE, NAMES):
            raise ValueError("it is of another version")
        return kind, base64.b64decode(text.rstrip(b"\n"), validate=True)
    except (binascii.Error, ValueError) as problem:
        raise ClientError(f"the restore file {Path(path)} is damaged: {problem}") from None
