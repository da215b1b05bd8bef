"""The FURLs of a controller's interfaces: publishing them, replacing them, and saying who may not come again."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from twisted.logger import Logger

from ipython1.kernel.basics.error import ClientError, SecurityError
from ipython1.kernel.controller.clientregistry import ClientRegistry
from ipython1.kernel.controller.visits import SHORT, Visits
from ipython1.kernel.host.controlserver import Order
from ipython1.kernel.host.furl import Furl, new_name, parse_furl
from ipython1.kernel.host.security import write_furl
from ipython1.kernel.tub import tubs
from ipython1.kernel.wire import messages

log: Logger = Logger()

LEAST_OF_UUID: Final = 4
"""Characters that name a client."""


@dataclass(frozen=True, slots=True)
class Capability:
    """An interface that others can reach.

    :ivar target: the Foolscap object that its FURL leads to.
    :ivar path: of the FURL file.
    """

    name: str
    tub: Any
    target: Any
    path: Path
    furl: Furl


class Capabilities:
    """The published interfaces of a controller, and the orders concerning them.

    :param now: gives the time in seconds since the epoch.
    """

    def __init__(
        self,
        visits: Visits,
        clients: ClientRegistry,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._visits = visits
        self._clients = clients
        self._now = now
        self._published: dict[str, Capability] = {}

    @property
    def files(self) -> dict[str, Path]:
        """The FURL files, by interface."""
        return {name: capability.path for name, capability in self._published.items()}

    def publish(self, name: str, tub: Any, target: Any, path: Path, old: Furl | None) -> None:
        """Let others reach ``target``, and write its FURL file.

        :param old: the FURL of an earlier run, to keep its secret.
        :raises SecurityError: if that belongs to another certificate, or the file cannot be written.
        """
        if old is not None and old.tub_id != tub.getTubID():
            raise SecurityError(
                f"the FURL in {path} belongs to another certificate and cannot be used again; "
                "remove that file to replace it"
            )
        furl = parse_furl(tubs.register(tub, target, None if old is None else old.name))
        write_furl(path, furl)
        self._published[name] = Capability(name, tub, target, path, furl)

    def orders(self) -> dict[str, Order]:
        """Return what may be ordered over the control socket."""
        return {"furl_list": self.overview, "furl_rotate": self.rotate, "furl_revoke": self.revoke}

    async def overview(self) -> Any:
        """Say which FURLs there are, and who is connected; no secret is in it."""
        return {
            "files": {name: str(path) for name, path in self.files.items()},
            "clients": [visit.describe() for visit in self._visits.here()]
            + [
                {
                    "interface": "",
                    "client": identity.uuid[:SHORT],
                    "label": identity.label,
                    "address": "away",
                    "since": 0.0,
                }
                for identity in self._clients.living()
                if not self._clients.is_connected(bytes.fromhex(identity.uuid))
            ],
        }

    async def rotate(self, name: str) -> Any:
        """Replace the FURL of an interface; say how many connections that ended.

        :raises ClientError: if there is no such interface.
        :raises SecurityError: if the file cannot be written; the old FURL holds then.
        """
        old = self._published.get(name)
        if old is None:
            raise ClientError(
                f"there is no interface {name!r}; there are {', '.join(self._published)}"
            )
        secret = new_name()
        # The file first: whoever reads it again when it is disconnected finds the new one.
        write_furl(old.path, replace(old.furl, name=secret))
        furl = parse_furl(tubs.replace_name(old.tub, old.target, secret))
        self._published[name] = replace(old, furl=furl)
        count = self._visits.cut_off(name, "its FURL was replaced")
        log.info(
            "the FURL of {name} was replaced; {count} parties were there", name=name, count=count
        )
        return count

    async def revoke(self, client: str) -> Any:
        """End the connections of a client, and never let it in again; give its id and who it is.

        :param client: the beginning of its uuid.
        :raises ClientError: if that does not name one client.
        :raises SecurityError: if it cannot be written down.
        """
        wanted = client.lower()
        known = {each.uuid: each.label for each in self._clients.living()}
        known |= {visit.hello.uuid: visit.hello.label for visit in self._visits.here()}
        found = [uuid for uuid in known if uuid.startswith(wanted)]
        if len(wanted) < LEAST_OF_UUID or not found:
            raise ClientError(
                f"there is no client {client!r}; 'ipcontroller furl list' shows those that there are"
            )
        if len(found) > 1:
            raise ClientError(f"{len(found)} clients begin with {client!r}; give more of the id")
        (uuid,) = found
        engines = [each for each in self._visits.here() if each.hello.role == messages.ENGINE]
        if any(visit.hello.uuid == uuid for visit in engines):
            raise ClientError(f"{client} is an engine; end it with MultiEngineClient.kill")
        reason = "it was revoked by whoever runs the controller"
        log.info("client {client} is revoked: {label}", client=uuid[:SHORT], label=known[uuid])
        try:
            self._visits.revoke(uuid, known[uuid], reason)
        finally:
            self._clients.goodbye(uuid, reason)
        return {"client": uuid[:SHORT], "label": known[uuid]}
