"""Where a cluster's files are on another host."""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from ipython1.daemon.link import NannyError, NannyLink
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.host.security import ClusterFiles
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.clusterfile import HostSpec

RESTORE_LIMIT = 700_000
"""Bytes of a restore file that fit into one message to a nanny."""


class RemoteFiles:
    """Where a cluster's files are on another host."""

    def __init__(self, files: ClusterFiles, spec: HostSpec) -> None:
        self.directory = PurePosixPath(spec.ipython_dir or _seen_from_home(files.dirs.ipython_dir))

    def security(self, path: Path) -> str:
        """Return the counterpart of a file in this host's security directory."""
        return str(self.directory / "security" / path.name)

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


async def send_files(link: NannyLink, spec: HostSpec, files: ClusterFiles, restore: str) -> None:
    """Copy what engines need to a host: the FURL file, and the restore file if there is one.

    :param restore: the path of the restore file; empty for none.
    :raises ClusterError: if it cannot be copied; says what to do.
    :raises ConnectionError: if the connection is lost meanwhile.
    """
    remote = RemoteFiles(files, spec)
    try:
        await link.write_file(remote.security(files.engine_furl), files.engine_furl.read_text())
    except NannyError as problem:
        raise ClusterError(
            f"cannot copy files to {spec.host}: {problem}; set a directory in the cluster file in which you can "
            "write there (ipython_dir='...')"
        ) from None
    if not restore:
        return
    path = Path(restore)
    text = path.read_text()
    if len(text) > RESTORE_LIMIT:
        raise ClusterError(
            f"cannot copy files to {spec.host}: what is to be restored has {len(text)} bytes; "
            f"at most {RESTORE_LIMIT} can be copied"
        )
    try:
        await link.write_file(remote.security(path), text)
    except NannyError as problem:
        raise ClusterError(f"cannot copy files to {spec.host}: {problem}") from None
