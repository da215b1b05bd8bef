"""Finding the FURL of a controller's interface from a file, a cluster id, an address or nothing."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import (
    ClientError,
    KernelError,
    NoController,
    NoDefaultAddress,
    SecurityError,
)
from ipython1.kernel.host.furl import Furl, check_host, check_port, parse_furl
from ipython1.kernel.host.security import (
    ClusterFiles,
    IPythonDirs,
    furl_file_of_environment,
    furl_of_environment,
    furl_variable,
    read_furl,
)

_ADDRESS: Final = r"(?P<host>[\w.\-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d+)"


@dataclass(frozen=True, slots=True)
class Place:
    """The location of a controller's interface.

    :ivar description: the location for display; contains no secret.
    """

    furl: Furl
    description: str


def furl_path(interface: str, cluster_id: str = "") -> Path:
    """Return the path of the FURL file of an interface.

    :param interface: ``'multiengine'``, ``'task'``, or the name of a custom interface.
    :param cluster_id: one of this user's clusters; default: the one without an id.
    """
    files = ClusterFiles(IPythonDirs.resolve(), cluster_id)
    if interface == "multiengine":
        return files.multiengine_furl
    if interface == "task":
        return files.task_furl
    return files.security_file(f"ipcontroller-{interface}.furl")


def furl_name(interface: str, cluster_id: str) -> str:
    """Return the name of the FURL file of an interface, on whatever host."""
    return furl_path(interface, cluster_id).name


def is_file(text: str) -> bool:
    """Return whether a text is the path of a file rather than a cluster id."""
    return os.sep in text or text.startswith(("~", ".")) or text.endswith(".furl")


def locate(furl_or_file: Any, interface: str) -> Place:
    """Find an interface.

    :param furl_or_file: a FURL, a FURL file, a cluster id, a tuple ``(host, port)``, or empty for the FURL in the
        environment, the file that the environment names, or else the default FURL file.
    :raises NoController: if the file is missing; the message says what to do.
    :raises SecurityError: if it is damaged or accessible to others.
    :raises ClientError: if it is a text that is none of these.
    :raises TypeError: if it is anything else.
    """
    if isinstance(furl_or_file, tuple):
        return _at_address(furl_or_file, interface)
    if isinstance(furl_or_file, Furl):
        return Place(furl_or_file, _hosts(furl_or_file))
    if not isinstance(furl_or_file, (str, os.PathLike)):
        raise TypeError(
            "furl_or_file must be a FURL, a FURL file, a cluster id or a tuple (host, port), "
            f"not an object of type {type(furl_or_file).__name__}"
        )
    text = os.fspath(furl_or_file)
    if text.startswith("pb://"):
        furl = parse_furl(text)
        return Place(furl, _hosts(furl))
    if not text:
        return _default(interface)
    path = Path(text).expanduser()
    if not path.exists():
        _refuse_address(text)
    if is_file(text) or isinstance(furl_or_file, os.PathLike) or path.is_file():
        return _from_named_file(path)
    return _from_file(
        furl_path(interface, text),
        f"start that cluster with: ipcluster -n 4 --cluster-id={text}",
        f"no cluster {text!r} is running here: ",
    )


def _refuse_address(text: str) -> None:
    """Explain how an address is given to a user who writes it as text, as in a URL."""
    address = re.fullmatch(rf"(?:\w+://)?{_ADDRESS}/?", text)
    if address is not None:
        host = address["host"].strip("[]")
        raise ClientError(
            f"furl_or_file cannot be {text!r}: give an address as a tuple, ({host!r}, {address['port']})"
        )


def _hosts(furl: Furl) -> str:
    return ", ".join(f"{host}:{port}" for host, port in furl.hints)


def _default(interface: str) -> Place:
    furl = furl_of_environment(interface)
    if furl is not None:
        return Place(furl, f"{_hosts(furl)} ({furl_variable(interface)})")
    named = furl_file_of_environment(interface)
    if named is not None:
        return _from_named_file(named)
    return _from_file(
        furl_path(interface), "start a cluster with: ipcluster -n 4", "no cluster is running here: "
    )


def _from_named_file(path: Path) -> Place:
    return _from_file(
        path, "check the name, or copy the file from the controller's host", named=True
    )


def _from_file(path: Path, remedy: str, problem: str = "", *, named: bool = False) -> Place:
    if not path.exists():
        raise NoController(f"{problem}there is no FURL file {path}; {remedy}")
    furl = read_furl(path, named=named)
    return Place(furl, f"{_hosts(furl)} ({path})")


def _at_address(address: tuple[Any, ...], interface: str) -> Place:
    if len(address) != 2:
        raise TypeError(f"furl_or_file must be a tuple (host, port), not {address!r}")
    try:
        host, port = check_host(address[0]), check_port(address[1])
    except SecurityError as problem:
        raise ClientError(f"furl_or_file cannot be {address!r}: {problem}") from None
    place = _default(interface)
    furl = place.furl.with_location(host, port)
    return Place(furl, f"{_hosts(furl)} (capability of {place.description})")


def default_address(interface: str) -> tuple[str, int]:
    """Return host and port from the default FURL file.

    :raises NoDefaultAddress: if there is no such file, or it cannot be read.
    """
    try:
        place = locate("", interface)
    except KernelError as problem:
        raise NoDefaultAddress(str(problem)) from None
    if not place.furl.hints:
        raise NoDefaultAddress(f"the FURL in {place.description} contains no location")
    return place.furl.hints[0]
