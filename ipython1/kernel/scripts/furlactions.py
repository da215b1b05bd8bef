"""``ipcontroller furl``: who can reach a controller, and who no longer.

A controller that runs is asked over its control socket.  Where none runs, the files are changed, for the next one.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import ClientError, ConnectionError
from ipython1.kernel.controller.config import ControllerConfig
from ipython1.kernel.host.control import BlockingControl, connect_control, find_socket
from ipython1.kernel.host.furl import new_name
from ipython1.kernel.host.lockfile import LockFile
from ipython1.kernel.host.logs import shown
from ipython1.kernel.host.security import (
    CONTROL_SOCKET,
    ClusterFiles,
    IPythonDirs,
    read_furl,
    write_furl,
)
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.controlleroptions import parse_controller
from ipython1.kernel.scripts.tables import aligned

CONTROLLER: Final = "the controller"
ANSWER_LIMIT: Final = 30.0
"""Seconds that a controller has to answer."""

_NAMES: Final = "one of engine, multiengine, task, monitor, or the name of an interface of your own"


def make_parser() -> arguments.OneLineParser:
    """The command line of ``ipcontroller furl``."""
    parser = arguments.OneLineParser(
        "ipcontroller furl",
        description="Show and replace the FURLs of a controller, and end the connections of clients.",
        allow_abbrev=False,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

    def add(name: str, help: str) -> argparse.ArgumentParser:
        description = f"{help[:1].upper()}{help[1:]}."
        return actions.add_parser(name, help=help, description=description, allow_abbrev=False)

    listing = add("list", "list the FURL files, and who is connected")
    listing.add_argument("--json", action="store_true", help="as one JSON object")
    show = add("show", "print one FURL, which is a secret")
    show.add_argument("name", metavar="NAME", help=_NAMES)
    show.add_argument("--yes", action="store_true", help="also if the output is not a terminal")
    rotate = add("rotate", "replace one FURL; who has the old one is cut off")
    rotate.add_argument("name", metavar="NAME", help=_NAMES)
    revoke = add("revoke", "disconnect one client for good")
    revoke.add_argument("client", metavar="CLIENT", help="its id, as the list shows it")
    for action in (listing, show, rotate, revoke):
        action.add_argument(
            "--ipython-dir",
            type=arguments.directory,
            metavar="DIR",
            help="where the controller's files are (default: $IPYTHONDIR or ~/.ipython)",
        )
        action.add_argument(
            "--cluster-id",
            type=arguments.cluster_id,
            default="",
            metavar="ID",
            help="the cluster of the controller",
        )
    return parser


def main(argv: Sequence[str]) -> int:
    """Do what the command line says; return the exit status.

    :raises KernelError: why it cannot be done.
    """
    given = make_parser().parse_args(argv)
    place = Place.of(given)
    if given.action == "list":
        return show_list(place, given.json)
    if given.action == "show":
        return show_furl(place, given.name, given.yes)
    if given.action == "rotate":
        return rotate(place, given.name)
    return revoke(place, given.client)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a controller keeps its files.

    :ivar paths: the FURL files that it would have, by interface.
    """

    files: ClusterFiles
    paths: dict[str, Path]

    @classmethod
    def of(cls, given: argparse.Namespace) -> Place:
        """Find the files of the controller that the command line names."""
        directory = IPythonDirs.resolve(given.ipython_dir).ipython_dir
        options = [f"--ipython-dir={directory}", f"--cluster-id={given.cluster_id}"]
        config: ControllerConfig = parse_controller(options)
        paths = {"engine": config.engine_furl_file}
        paths |= {spec.name: spec.furl_file for spec in config.interfaces}
        return cls(config.files, paths)

    @contextmanager
    def controller(self) -> Iterator[BlockingControl | None]:
        """Give the connection to the controller; None if none runs, and none can start meanwhile.

        :raises ConnectionError: if one runs that cannot be asked from here.
        """
        lock = LockFile(self.files.security_file("ipcontroller.lock"))
        if not self.files.dirs.security.exists():
            yield None
            return
        try:
            socket = find_socket(self.files.security_file(CONTROL_SOCKET))
            control = BlockingControl(connect_control(str(socket), who=CONTROLLER), who=CONTROLLER)
        except ConnectionError:
            if not lock.acquire():
                raise ConnectionError(
                    f"the controller runs (process {lock.holder() or 'unknown'}) but cannot be asked from here: it is "
                    "on another host, is starting, or is stuck; give this command on its host"
                ) from None
            try:
                yield None
            finally:
                lock.release()
            return
        try:
            yield control
        finally:
            control.close()

    def path(self, name: str, control: BlockingControl | None) -> Path:
        """Return the FURL file of an interface.

        :raises ClientError: if there is no such interface.
        """
        paths = self.paths
        if control is not None:
            found = control.call("furl_list", ANSWER_LIMIT)["files"]
            paths = {each: Path(path) for each, path in found.items()}
        if name not in paths:
            raise ClientError(f"there is no interface {name!r}; there are {', '.join(paths)}")
        return paths[name]


def show_list(place: Place, as_json: bool) -> int:
    """Say which FURLs there are, and who is connected."""
    with place.controller() as control:
        if control is None:
            found: dict[str, Any] = {
                "files": {name: str(path) for name, path in place.paths.items()},
                "clients": [],
            }
        else:
            found = control.call("furl_list", ANSWER_LIMIT)
    ages = {name: _age(path) for name, path in found["files"].items()}
    if as_json:
        print(json.dumps({"running": control is not None, **found, "ages": ages}))
        return 0
    rows = [("interface", "age", "FURL file")]
    for name, path in found["files"].items():
        age = ages[name]
        rows.append((name, "none yet" if age is None else _duration(age), path))
    _print_table(rows)
    print()
    if control is None:
        print("no controller runs")
    elif not found["clients"]:
        print("nobody is connected")
    else:
        heads = ("client", "interface", "connected", "from", "who")
        _print_table([heads, *(_client_row(each) for each in found["clients"])])
    return 0


def _client_row(client: dict[str, Any]) -> tuple[str, ...]:
    since = client["since"]
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(since)) if since else "-"
    return (client["client"], client["interface"] or "-", when, client["address"], client["label"])


def _age(path: str) -> float | None:
    try:
        return max(0.0, time.time() - os.stat(path).st_mtime)
    except OSError:
        return None


def _duration(seconds: float) -> str:
    for unit, size in (("day", 86400), ("hour", 3600), ("minute", 60)):
        if seconds >= size:
            count = int(seconds // size)
            return f"{count} {unit}{'s' if count != 1 else ''}"
    return "seconds"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    # What others call themselves must not look like anything else.
    print(*aligned([[shown(cell) for cell in row] for row in rows]), sep="\n")


def show_furl(place: Place, name: str, yes: bool) -> int:
    """Print one FURL."""
    if not yes and not sys.stdout.isatty():
        raise ClientError(
            "a FURL is a secret, and the output is not a terminal; add --yes to print it all the same"
        )
    with place.controller() as control:
        path = place.path(name, control)
    print(read_furl(path))
    return 0


def rotate(place: Place, name: str) -> int:
    """Replace one FURL."""
    with place.controller() as control:
        path = place.path(name, control)
        if control is None:
            write_furl(path, replace(read_furl(path), name=new_name()))
            print(
                f"the FURL of {name} is replaced in {path}; the controller uses it when it is started"
            )
        else:
            count = control.call("furl_rotate", ANSWER_LIMIT, name=name)
            print(
                f"the FURL of {name} is replaced in {path}; connections ended: {count} "
                "(those that read this file come back)"
            )
    print("replace the copies that you made on other hosts, too; ipcluster replaces its own")
    return 0


def revoke(place: Place, client: str) -> int:
    """Disconnect one client for good."""
    with place.controller() as control:
        if control is None:
            raise ClientError(
                "no controller runs, so no client is connected; rotate its FURL instead"
            )
        found = control.call("furl_revoke", ANSWER_LIMIT, client=client)
    print(
        f"client {found['client']} ({shown(found['label'])}) is disconnected and will not be let in again"
    )
    print(
        "whoever has a FURL can come as a new client; 'ipcontroller furl rotate NAME' replaces it"
    )
    return 0
