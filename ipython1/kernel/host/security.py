"""Where the kernel's private files are, and how FURLs are read from them.

``<ipython dir>/security`` (mode 0700) holds the key, the FURLs and the state of each cluster, and
``<ipython dir>/log`` the logs. Several clusters can share one IPython directory under different
cluster ids, which become part of the names of their files.

The module re-exports the main functions of :mod:`ipython1.kernel.host.private_files` and
:mod:`ipython1.kernel.host.furl`.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ipython1.config.paths import find_ipython_dir
from ipython1.kernel.basics.error import ClientError, FileTimeoutError, SecurityError
from ipython1.kernel.host.furl import (
    Furl,
    parse_furl,
)
from ipython1.kernel.host.mountedfiles import read_named_if_there
from ipython1.kernel.host.private_files import (
    ensure_private_dir,
    ensure_unshared_dir,
    read_private_if_there,
    write_private,
)

if TYPE_CHECKING:
    from twisted.internet.interfaces import IReactorTime

POLL_SECONDS = 0.02
SLOW_POLL_SECONDS = 0.25
FAST_POLLING_SECONDS = 3.0
"""Poll fast (every 20 ms) for this many seconds, as the file may be about to appear, then slowly."""

BAD_FILE_SECONDS = 2.0
"""Give up on a file that stays unusable for this many seconds: it is not just half written."""

CONTROL_SOCKET = "ipcontroller.sock"
"""The name of the socket in the security directory over which a controller takes orders."""

_CLUSTER_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}")


@dataclass(frozen=True, slots=True)
class IPythonDirs:
    """The directories of one user.

    :ivar ipython_dir: an absolute path.
    """

    ipython_dir: Path

    @classmethod
    def resolve(
        cls,
        ipython_dir: str | os.PathLike[str] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> IPythonDirs:
        """Find the IPython directory: the option, else ``$IPYTHONDIR``, else ``~/.ipython``.

        Nothing is created.

        :raises ConfigError: if there is no home directory to start from.
        """
        return cls(find_ipython_dir(ipython_dir, environ))

    @property
    def security(self) -> Path:
        """The directory of keys, FURLs and state."""
        return self.ipython_dir / "security"

    @property
    def journal(self) -> Path:
        """What controllers hold for others."""
        return self.ipython_dir / "journal"

    @property
    def log(self) -> Path:
        """Logs."""
        return self.ipython_dir / "log"

    def prepare(self) -> IPythonDirs:
        """Create missing directories; refuse those that others can access, or could replace.

        :returns: ``self``.
        :raises SecurityError: see :func:`ensure_unshared_dir` and :func:`ensure_private_dir`.
        """
        ensure_unshared_dir(self.ipython_dir)
        ensure_private_dir(self.security)
        ensure_private_dir(self.log)
        return self


def check_cluster_id(cluster_id: str) -> str:
    """Return a cluster id if it can be part of a file name; the default cluster's id is empty.

    :raises ClientError: if it cannot.
    """
    if cluster_id == "" or _CLUSTER_ID.fullmatch(cluster_id):
        return cluster_id
    raise ClientError(
        f"invalid cluster id {cluster_id!r}: use up to 64 letters, digits and the characters - _ . "
        "starting with a letter or digit"
    )


@dataclass(frozen=True, slots=True)
class ClusterFiles:
    """The paths of a cluster's files; a cluster id ``X`` adds ``-X`` after the first word of each
    name.

    :raises ClientError: if the cluster id is invalid.
    """

    dirs: IPythonDirs
    cluster_id: str = ""

    def __post_init__(self) -> None:
        check_cluster_id(self.cluster_id)

    @property
    def certificate(self) -> Path:
        """``ipcontroller.pem``: the controller's key and certificate."""
        return self.security_file("ipcontroller.pem")

    @property
    def engine_furl(self) -> Path:
        """``ipcontroller-engine.furl``: the FURL for engines."""
        return self.security_file("ipcontroller-engine.furl")

    @property
    def multiengine_furl(self) -> Path:
        """``ipcontroller-mec.furl``: the FURL for clients of the MultiEngine interface."""
        return self.security_file("ipcontroller-mec.furl")

    @property
    def task_furl(self) -> Path:
        """``ipcontroller-tc.furl``: the FURL for clients of the Task interface."""
        return self.security_file("ipcontroller-tc.furl")

    @property
    def state(self) -> Path:
        """``ipcluster.json``: what ``ipcluster`` started."""
        return self.security_file("ipcluster.json")

    def journal(self, directory: str | os.PathLike[str] = "") -> Path:
        """The directory of the controller's journal.

        :param directory: of all journals, instead of the default.
        """
        parent = Path(directory).expanduser() if directory else self.dirs.journal
        return self.dirs.ipython_dir / parent / self._named("state")

    @property
    def controller_log(self) -> Path:
        """``ipcontroller.log``."""
        return self.log_file("ipcontroller.log")

    @property
    def cluster_log(self) -> Path:
        """``ipcluster.log``."""
        return self.log_file("ipcluster.log")

    def engine_log(self, number: int | str) -> Path:
        """``ipengine-N.log``."""
        return self.log_file(f"ipengine-{number}.log")

    def security_file(self, name: str) -> Path:
        """Return the path of a file in the security directory.

        :param name: the default cluster's name for it, such as ``ipcontroller-mec.furl``.
        """
        return self.dirs.security / self._named(name)

    def log_file(self, name: str) -> Path:
        """Return the path of a file in the log directory.

        :param name: the default cluster's name for it, such as ``ipcontroller.log``.
        """
        return self.dirs.log / self._named(name)

    def _named(self, name: str) -> str:
        if not self.cluster_id:
            return name
        end = re.search(r"[-.]", name)
        at = end.start() if end else len(name)
        return f"{name[:at]}-{self.cluster_id}{name[at:]}"


FURL_VARIABLES = {"multiengine": "MEC", "task": "TASK"}
"""Interfaces whose variables in the environment are not named after themselves."""


def furl_variable(interface: str) -> str:
    """Return the name of the variable in the environment that can hold the FURL of an interface itself.

    :param interface: ``'engine'``, ``'multiengine'``, ``'task'``, ``'monitor'``, or that of a custom one.
    """
    return f"IPYTHON1_{FURL_VARIABLES.get(interface, interface.upper())}_FURL"


def furl_of_environment(interface: str, environ: Mapping[str, str] | None = None) -> Furl | None:
    """Return the FURL that the environment holds; None if there is none.

    :raises SecurityError: if what it holds is not a FURL; the message says what is wrong without showing it.
    """
    name = furl_variable(interface)
    text = (os.environ if environ is None else environ).get(name, "")
    if not text.strip():
        return None
    try:
        return parse_furl(text)
    except SecurityError as problem:
        raise SecurityError(f"{name} in the environment is {problem}") from None


def furl_file_of_environment(
    interface: str, environ: Mapping[str, str] | None = None
) -> Path | None:
    """Return the path of a FURL file that the environment names, for secrets that are mounted as files.

    The variable is that of :func:`furl_variable` with ``_FILE`` at its end.
    """
    name = f"{furl_variable(interface)}_FILE"
    text = (os.environ if environ is None else environ).get(name, "").strip()
    return Path(os.path.abspath(text)) if text else None


def write_furl(path: str | os.PathLike[str], furl: Furl | str) -> Path:
    """Write a FURL file with mode 0600, atomically; do nothing if it holds this FURL already.

    So a controller that keeps its FURLs can start again on a full disk.

    :returns: the path.
    :raises SecurityError: if it cannot be written.
    """
    data = f"{furl}\n".encode("ascii")
    with contextlib.suppress(SecurityError):
        if read_private_if_there(path, "FURL file") == data:
            return Path(path)
    return write_private(path, data)


def read_furl(path: str | os.PathLike[str], *, named: bool = False) -> Furl:
    """Read the FURL in a file.

    :param named: whether the user has named the file, which may be a mounted secret then
        (:mod:`ipython1.kernel.host.mountedfiles`).
    :raises SecurityError: if the file is missing, accessible to others, or does not hold a FURL;
        the message says what to do.
    """
    furl = _read_furl_if_there(Path(path), named)
    if furl is None:
        raise SecurityError(
            f"the FURL file {path} does not exist; start a controller (ipcluster -n 4), or copy the file from the "
            "controller's host"
        )
    return furl


def _read_furl_if_there(path: Path, named: bool) -> Furl | None:
    read = read_named_if_there if named else read_private_if_there
    data = read(path, "FURL file")
    if data is None:
        return None
    try:
        return parse_furl(data.decode("ascii"))
    except UnicodeDecodeError as exception:
        raise _bad_furl_file(path, "not a FURL: it is not ASCII text") from exception
    except SecurityError as exception:
        raise _bad_furl_file(path, str(exception)) from exception


def _bad_furl_file(path: Path, why: str) -> SecurityError:
    return SecurityError(
        f"the FURL file {path} is damaged ({why}); copy it again from the controller's host, "
        "or remove it and restart the controller"
    )


async def wait_for_furl(
    path: str | os.PathLike[str], timeout: float, clock: IReactorTime, *, named: bool = False
) -> Furl:
    """Wait for a file that may be missing or incomplete, and read the FURL in it.

    :param timeout: seconds to wait for the file.
    :param clock: a reactor, or a ``task.Clock``.
    :param named: see :func:`read_furl`.
    :raises FileTimeoutError: if the file does not appear in time.
    :raises SecurityError: if the file stays unusable for :data:`BAD_FILE_SECONDS` or until the
        timeout.
    """
    from twisted.internet.task import deferLater

    file = Path(path)
    begin = clock.seconds()
    bad_since: float | None = None
    while True:
        now = clock.seconds()
        try:
            furl = _read_furl_if_there(file, named)
            if furl is not None:
                return furl
            bad_since = None
        except SecurityError:
            bad_since = now if bad_since is None else bad_since
            if now - bad_since >= BAD_FILE_SECONDS or now - begin >= timeout:
                raise
        waited = now - begin
        if waited >= timeout:
            raise FileTimeoutError(
                f"the FURL file {file} did not appear within {timeout:g} s; start the controller, copy the file "
                "from its host, or give the path of another file"
            )
        _look_again(file.parent)
        pause = POLL_SECONDS if waited < FAST_POLLING_SECONDS else SLOW_POLL_SECONDS
        await deferLater(clock, min(pause, max(timeout - waited, 0.001)), lambda: None)


def _look_again(directory: Path) -> None:
    """Open the directory, to make an NFS client look again for a file that it has cached as missing."""
    try:
        os.scandir(directory).close()
    except OSError:
        return
