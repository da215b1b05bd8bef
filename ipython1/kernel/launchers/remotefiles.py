"""Where a cluster's files are on another host."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.clusterfile import HostSpec
from ipython1.kernel.launchers.tunnel import furl_file_name

RESTORE_LIMIT = 700_000
"""Bytes of a restore file that fit into one message to a nanny."""


class RemoteFiles:
    """Where a cluster's files are on another host."""

    def __init__(self, files: ClusterFiles, spec: HostSpec) -> None:
        self.directory: PurePosixPath = PurePosixPath(
            spec.ipython_dir or _seen_from_home(files.dirs.ipython_dir)
        )
        self._host = spec.host

    def security(self, path: Path) -> str:
        """Return the counterpart of a file in this host's security directory."""
        return str(self.directory / "security" / path.name)

    def furl_through_ssh(self, path: Path) -> str:
        """Return where the host's own FURL file is, which leads through ssh.

        :param path: the cluster's FURL file on this host.
        """
        return self.security(path.with_name(furl_file_name(path.name, self._host)))

    def log(self, path: Path) -> str:
        """Return the counterpart of a file in this host's log directory."""
        return str(self.directory / "log" / path.name)

    def common_arguments(self, config: ClusterConfig) -> list[str]:
        """Return the common options for controller and engines there."""
        found = [
            each for each in config.common_arguments() if not each.startswith("--ipython-dir=")
        ]
        return [f"--ipython-dir={self.directory}", *found]


def _seen_from_home(path: Path) -> str:
    try:
        return str(PurePosixPath("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


async def send_files(
    link: NannyLink, remote: RemoteFiles, host: str, furl_file: str, furl: str, restore: str
) -> None:
    """Copy what engines need to a host: the FURL file, and the restore file if there is one.

    :param host: its name, for messages.
    :param furl_file: the path of the FURL file there.
    :param furl: its content.
    :param restore: the path of the restore file; empty for none.
    :raises ClusterError: if it cannot be copied; says what to do.
    :raises ConnectionError: if the connection is lost meanwhile.
    """
    try:
        await link.write_file(furl_file, furl)
    except NannyError as problem:
        raise ClusterError(
            f"cannot copy files to {host}: {problem}; set a directory in the cluster file in which you can "
            "write there (ipython_dir='...')"
        ) from None
    if not restore:
        return
    path = Path(restore)
    text = path.read_text()
    if len(text) > RESTORE_LIMIT:
        raise ClusterError(
            f"cannot copy files to {host}: what is to be restored has {len(text)} bytes; "
            f"at most {RESTORE_LIMIT} can be copied"
        )
    try:
        await link.write_file(remote.security(path), text)
    except NannyError as problem:
        raise ClusterError(f"cannot copy files to {host}: {problem}") from None
