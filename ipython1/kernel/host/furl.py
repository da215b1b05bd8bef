"""FURLs: the addresses by which a process reaches an object of another, and keeping them out of logs.

A FURL has the form ``pb://TUBID@tcp:HOST:PORT,tcp:HOST:PORT/NAME``.  The Tub id (a digest of the
certificate) says who must answer, the hints say where, and the name is the secret: anyone who knows
it may use the object.  So no ``repr`` shows the name, and :func:`redact` removes it from any text
that is shown or stored.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass, field, replace

from ipython1.checks import is_int
from ipython1.kernel.basics.error import SecurityError

MAX_FURL_LENGTH = 4096
"""The maximum length in characters."""

_PREFIX = "pb://"
_FURL = re.compile(
    r"pb://(?P<tub>[a-z2-7]{32})@(?P<hints>[^/\s]*)/(?P<name>[A-Za-z0-9_.\-]{1,256})"
)
_HINT = re.compile(
    r"(?:tcp:)?(?P<host>\[[0-9A-Fa-f:.]+(?:%[A-Za-z0-9.]+)?\]|[A-Za-z0-9.\-]+):(?P<port>\d{1,5})"
)
_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9.\-]{0,252}[A-Za-z0-9])?\.?")
_LIKE_AN_ADDRESS = re.compile(r"[\d.]+|.*:.*")

_FURL_ANYWHERE = re.compile(r"(pb://[^\s/@'\"]*@[^\s/'\"]*/)[^\s'\"<>,;()\[\]{}]+")
# A bare secret is at least 160 random bits in base32; a Tub id looks the same but follows "pb://".
_SECRET_ANYWHERE = re.compile(r"(?<!pb://)(?<![A-Za-z0-9_])[a-z2-7]{32,}(?![A-Za-z0-9_])")
HIDDEN = "<hidden>"


@dataclass(frozen=True, slots=True)
class Furl:
    """A FURL; ``str()`` returns its text, ``repr()`` hides the secret name.

    :ivar tub_id: 32 characters of base32, the digest of the certificate of the Tub that must
        answer.
    :ivar hints: ``(host, port)`` pairs in the order to try them; IPv6 addresses without brackets.
    :ivar name: the secret.
    """

    tub_id: str
    hints: tuple[tuple[str, int], ...]
    name: str = field(repr=False)

    def __str__(self) -> str:
        return f"{_PREFIX}{self.tub_id}@{','.join(format_hint(host, port) for host, port in self.hints)}/{self.name}"

    def with_location(self, host: str | None = None, port: int | None = None) -> Furl:
        """Return the same capability at another location.

        :param host: default the hosts of all hints.
        :param port: default that of each hint; of the first one if a host is given.
        :raises SecurityError: if the FURL has no hints and so lacks a host or a port, or these are invalid.
        """
        if not self.hints and (host is None or port is None):
            raise SecurityError("the FURL has no location; give both a host and a port")
        if host is not None:
            at = self.hints[0][1] if port is None else port
            return replace(self, hints=((check_host(host), check_port(at)),))
        if port is not None:
            check_port(port)
            hints = dict.fromkeys((each, port) for each, _ in self.hints)
            return replace(self, hints=tuple(hints))
        return self


def new_name() -> str:
    """Return a new secret: 160 random bits."""
    return base64.b32encode(os.urandom(20)).decode("ascii").lower()


def parse_furl(text: str) -> Furl:
    """Parse a FURL, which may be surrounded by white space.

    :raises SecurityError: if the text is not a FURL; the message says what is wrong without
        showing the secret.
    """
    text = text.strip()
    if not text:
        raise SecurityError("not a FURL: it is empty")
    if len(text) > MAX_FURL_LENGTH:
        raise SecurityError(f"not a FURL: it is {len(text)} characters long")
    if not text.startswith(_PREFIX):
        raise SecurityError("not a FURL: it does not start with 'pb://'")
    match = _FURL.fullmatch(text)
    if match is None:
        raise SecurityError(f"not a FURL: {_whats_wrong(text)}")
    hints = match["hints"]
    return Furl(
        match["tub"],
        tuple(_parse_hint(hint) for hint in hints.split(",")) if hints else (),
        match["name"],
    )


def _whats_wrong(text: str) -> str:
    tub, at, rest = text[len(_PREFIX) :].partition("@")
    location, slash, name = rest.partition("/")
    if not at or not slash or not name:
        return "it is incomplete (the form is pb://TUBID@tcp:HOST:PORT/NAME)"
    if not re.fullmatch(r"[a-z2-7]{32}", tub):
        return "its Tub id must be 32 characters from a-z and 2-7"
    if re.search(r"\s", location):
        return "its location contains white space"
    return "its name contains invalid characters"


def _parse_hint(hint: str) -> tuple[str, int]:
    match = _HINT.fullmatch(hint)
    if match is None:
        raise SecurityError(f"not a FURL: its location {hint!r} must have the form tcp:HOST:PORT")
    return check_host(match["host"]), check_port(int(match["port"]))


def check_host(host: object) -> str:
    """Return a host name or address in the form used in hints (IPv6 without brackets).

    :raises SecurityError: if it is neither.
    """
    if isinstance(host, str):
        bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
        if _is_address(bare) if _LIKE_AN_ADDRESS.fullmatch(bare) else _HOST.fullmatch(bare):
            return bare
    raise SecurityError(f"{host!r} is not a host name or an IP address")


def _is_address(text: str) -> bool:
    import ipaddress

    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def check_port(port: object) -> int:
    """Return ``port`` if it is a TCP port that can be connected to.

    :raises SecurityError: if it is not an integer from 1 to 65535.
    """
    if is_int(port) and 1 <= port <= 65535:
        return port
    raise SecurityError(f"{port!r} is not a port number from 1 to 65535")


def check_location(location: object) -> str:
    """Return ``location`` if it is empty, or ``HOST`` or ``HOST:PORT``, or several separated by commas.

    :raises SecurityError: if it is not.
    """
    if not isinstance(location, str):
        raise SecurityError(f"{location!r} is not HOST or HOST:PORT")
    for part in location.split(",") if location else ():
        host, colon, port = part.strip().rpartition(":")
        # IPv6 addresses contain colons; they are in brackets if a port follows.
        if colon and (":" not in host or host.endswith("]")):
            check_host(host)
            check_port(int(port) if port.isdecimal() else port)
        else:
            check_host(part.strip())
    return location


def format_hint(host: str, port: int) -> str:
    """Return ``tcp:HOST:PORT``, with brackets around an IPv6 address."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def redact(text: str) -> str:
    """Hide the secret names of FURLs in a text, and bare secrets of the same form."""
    if _PREFIX in text:
        text = _FURL_ANYWHERE.sub(rf"\1{HIDDEN}", text)
    return _SECRET_ANYWHERE.sub(HIDDEN, text)
