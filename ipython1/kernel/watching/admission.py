"""Who may see the monitor's page.

The address that is printed has a token.  A browser that opens it gets a cookie instead, and goes on to an address
without the token, so that the token does not stay in the list of visited pages, on a screen that is shared, or in a
bookmark.  Cookies are sent to all servers of a host, whatever their port; so the cookie is for a path that nobody can
guess, and other users' servers on this host do not get it.
"""

from __future__ import annotations

import contextlib
import re
import secrets
from pathlib import Path
from typing import Final

from twisted.web.http import Request

from ipython1.kernel.host.private_files import read_private, write_private

COOKIE: Final = b"ipython1-monitor"

_HOST: Final = re.compile(rb"(?:127\.0\.0\.1|localhost|\[::1\])(?::\d{1,5})?", re.IGNORECASE)

HEADERS: Final = {
    b"Content-Security-Policy": b"default-src 'self'; base-uri 'none'; form-action 'none'; "
    b"frame-ancestors 'none'; object-src 'none'",
    b"Cache-Control": b"no-store",
    b"X-Content-Type-Options": b"nosniff",
    b"X-Frame-Options": b"DENY",
    b"Referrer-Policy": b"no-referrer",
    b"Cross-Origin-Opener-Policy": b"same-origin",
    b"Cross-Origin-Resource-Policy": b"same-origin",
    b"Server": b"ipython1",
}
"""What every answer says."""


class Admission:
    """Decides who may see the page, and who the numbers for Prometheus.

    :param metrics_token: admits to these numbers only; empty for none.
    :ivar token: admits to everything.
    :ivar path: where the page is, with a slash at both ends.
    """

    def __init__(self, metrics_token: str = "") -> None:
        self.token: str = secrets.token_urlsafe(32)
        self.path: str = f"/{secrets.token_urlsafe(12)}/"
        self._cookie = secrets.token_urlsafe(32)
        self._metrics_token = metrics_token

    def is_our_host(self, request: Request) -> bool:
        """Whether a request is for this host under one of its own names.

        Somebody else's web page can give its own host name this host's address, and would then count as the same
        site as our page.  The port may differ: that is so at the other end of a tunnel.
        """
        hosts = request.requestHeaders.getRawHeaders(b"Host", [])
        return len(hosts) == 1 and _HOST.fullmatch(hosts[0]) is not None

    def has_token(self, request: Request) -> bool:
        """Whether the address has the token."""
        return self._is_given(request, self.token)

    def has_cookie(self, request: Request) -> bool:
        """Whether the browser was here with the token."""
        return _same(request.getCookie(COOKIE), self._cookie)

    def may_have_metrics(self, request: Request) -> bool:
        """Whether the address or the headers have a token that admits to the numbers."""
        return self._is_given(request, self.token) or self._is_given(request, self._metrics_token)

    def give_cookie(self, request: Request) -> None:
        """Answer with the cookie."""
        request.addCookie(COOKIE, self._cookie, path=self.path, httpOnly=True, sameSite="strict")

    @staticmethod
    def _is_given(request: Request, token: str) -> bool:
        given = request.args.get(b"token", [])
        if _same(given[0] if len(given) == 1 else None, token):
            return True
        kind, _, value = (request.getHeader(b"Authorization") or b"").partition(b" ")
        return kind.lower() == b"bearer" and _same(value.strip(), token)


def _same(given: bytes | None, wanted: str) -> bool:
    """Compare secrets in a time that tells nothing about them."""
    if not wanted:
        return False
    return given is not None and secrets.compare_digest(given, wanted.encode())


def metrics_token(path: Path) -> str:
    """The token for Prometheus, which stays the same; it is made when it is first needed.

    :param path: the private file that has it.
    :raises SecurityError: if others can access the file.
    """
    # Another monitor of this cluster may be making it, too.
    with contextlib.suppress(FileExistsError):
        if not path.exists():
            write_private(path, secrets.token_urlsafe(32).encode() + b"\n", replace=False)
    return read_private(path, "token file").decode("ascii", "replace").strip()
