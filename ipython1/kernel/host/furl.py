"""FURLs: what lets a process reach one object of another, and keeping them out of logs.

A FURL reads ``pb://TUBID@tcp:HOST:PORT,tcp:HOST:PORT/NAME``.  The Tub id (a digest of the
certificate) says who must answer, the hints say where, and the name is the secret: whoever knows it
may use the object.  So the name is left out of every ``repr``, and :func:`redact` takes it out of
any text that is shown or stored.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace

from ipython1.checks import is_int
from ipython1.kernel.basics.error import SecurityError

MAX_FURL_LENGTH = 4096
"""Characters; a longer text is not a FURL."""

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
# A bare secret is 160 random bits or more in base32; a Tub id looks the same but stands behind
# "pb://".
_SECRET_ANYWHERE = re.compile(r"(?<!pb://)(?<![A-Za-z0-9_])[a-z2-7]{32,}(?![A-Za-z0-9_])")
HIDDEN = "<hidden>"


@dataclass(frozen=True, slots=True)
class Furl:
    """One FURL; ``str()`` gives its text, ``repr()`` does not show the secret name.

    :ivar tub_id: 32 characters of base32, the digest of the certificate of the Tub that must
        answer.
    :ivar hints: ``(host, port)`` pairs in the order to be tried; IPv6 addresses stand without
        brackets.
    :ivar name: the secret.
    """

    tub_id: str
    hints: tuple[tuple[str, int], ...]
    name: str = field(repr=False)

    def __str__(self) -> str:
        return f"{_PREFIX}{self.tub_id}@{','.join(format_hint(host, port) for host, port in self.hints)}/{self.name}"

    def with_location(self, host: str | None = None, port: int | None = None) -> Furl:
        """The same capability at another place; what is not given is taken from the first hint.

        :raises SecurityError: when the FURL has no hint to take it from, or the host or port cannot
            be one.
        """
        if (host is None or port is None) and not self.hints:
            raise SecurityError("the FURL names no location, so both a host and a port are needed")
        first_host, first_port = self.hints[0] if self.hints else ("", 0)
        where = (
            check_host(first_host if host is None else host),
            check_port(first_port if port is None else port),
        )
        return replace(self, hints=(where,))


def parse_furl(text: str) -> Furl:
    """The FURL in a text, with white space around it allowed.

    :raises SecurityError: when the text is not a FURL; the message says what is wrong without
        showing the secret.
    """
    text = text.strip()
    if not text:
        raise SecurityError("an empty text is not a FURL")
    if len(text) > MAX_FURL_LENGTH:
        raise SecurityError(f"a text of {len(text)} characters is not a FURL")
    if not text.startswith(_PREFIX):
        raise SecurityError("not a FURL: it does not begin with 'pb://'")
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
        return "it is incomplete (it should read pb://TUBID@tcp:HOST:PORT/NAME)"
    if not re.fullmatch(r"[a-z2-7]{32}", tub):
        return "its Tub id is not 32 characters of a-z and 2-7"
    if re.search(r"\s", location):
        return "there is white space in its location"
    return "its name has characters that do not belong there"


def _parse_hint(hint: str) -> tuple[str, int]:
    match = _HINT.fullmatch(hint)
    if match is None:
        raise SecurityError(f"not a FURL: its location {hint!r} is not of the form tcp:HOST:PORT")
    return check_host(match["host"]), check_port(int(match["port"]))


def check_host(host: object) -> str:
    """A host name or address as it is used in hints (IPv6 without brackets).

    :raises SecurityError: when it can be neither.
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
    """A TCP port that can be connected to.

    :raises SecurityError: when it is not an integer from 1 to 65535.
    """
    if is_int(port) and 1 <= port <= 65535:
        return port
    raise SecurityError(f"{port!r} is not a port number from 1 to 65535")


def check_location(location: object) -> str:
    """``HOST`` or ``HOST:PORT``, or several of them with commas between; may be empty.

    :raises SecurityError: when it is not.
    """
    if not isinstance(location, str):
        raise SecurityError(f"{location!r} is not HOST or HOST:PORT")
    for part in location.split(",") if location else ():
        host, colon, port = part.strip().rpartition(":")
        # An IPv6 address has colons of its own, and stands in brackets when a port follows.
        if colon and (":" not in host or host.endswith("]")):
            check_host(host)
            check_port(int(port) if port.isdecimal() else port)
        else:
            check_host(part.strip())
    return location


def format_hint(host: str, port: int) -> str:
    """``tcp:HOST:PORT``, with brackets around an IPv6 address."""
    return f"tcp:[{host}]:{port}" if ":" in host else f"tcp:{host}:{port}"


def redact(text: str) -> str:
    """The text without the secret names of FURLs, and without bare secrets of their form."""
    if _PREFIX in text:
        text = _FURL_ANYWHERE.sub(rf"\1{HIDDEN}", text)
    return _SECRET_ANYWHERE.sub(HIDDEN, text)
