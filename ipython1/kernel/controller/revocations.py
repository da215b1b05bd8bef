"""The clients that may not come again; kept in a file, for controllers that are started later."""

from __future__ import annotations

import time
from pathlib import Path

from ipython1.kernel.basics.error import SecurityError
from ipython1.kernel.host.private_files import read_private_if_there, write_private

_HEAD = "# Clients that were revoked: uuid, when, who. A line that is removed lets its client in again.\n"


class Revocations:
    """The uuids of revoked clients.

    :param path: a private file; None to keep them in memory only.
    :raises SecurityError: if the file is accessible to others, or cannot be understood.
    """

    def __init__(self, path: Path | None = None) -> None:
        self._path = path
        self._lines: dict[str, str] = {}
        data = None if path is None else read_private_if_there(path, "list of revoked clients")
        for line in (data or b"").decode("utf-8", "replace").splitlines():
            if line.strip() and not line.startswith("#"):
                self._lines[self._uuid_of(line)] = line

    def __len__(self) -> int:
        return len(self._lines)

    def _uuid_of(self, line: str) -> str:
        uuid = line.split()[0]
        try:
            if len(bytes.fromhex(uuid)) == 16:
                return uuid.lower()
        except ValueError:
            pass
        raise SecurityError(
            f"{self._path} is damaged: a line does not begin with the uuid of a client; remove that line"
        )

    def add(self, uuid: str, now: float, label: str) -> None:
        """Revoke a client; it is in the file when this returns.

        :raises SecurityError: if the file cannot be written; the client is revoked all the same until the end of this
            process.
        """
        when = time.strftime("%Y-%m-%dT%H:%M:%S%z", time.localtime(now))
        who = "".join(char if char.isprintable() else "?" for char in label)
        self._lines[uuid] = f"{uuid} {when} {who}".rstrip()
        if self._path is not None:
            text = _HEAD + "".join(f"{line}\n" for line in self._lines.values())
            write_private(self._path, text.encode())

    def check(self, uuid: str) -> None:
        """:raises SecurityError: if this client was revoked."""
        if uuid in self._lines:
            raise SecurityError(
                f"client {uuid[:8]} was revoked by whoever runs the controller, and is not let in again"
            )
