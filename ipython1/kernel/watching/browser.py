"""Opening the monitor's page in a browser.

What is on a command line can be seen by all users of a host.  So the browser gets the name of a private file that
leads on to the page.
"""

from __future__ import annotations

import contextlib
import html
import os
import sys
import webbrowser
from pathlib import Path

from ipython1.kernel.host.private_files import write_private

_REDIRECT = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="referrer" content="no-referrer">
<title>Cluster monitor</title><meta http-equiv="refresh" content="0;url={url}"></head>
<body><p><a href="{url}">Cluster monitor</a></p></body></html>
"""


class RedirectFile:
    """A private file that leads a browser to an address.

    :param path: of the file, in a private directory.
    """

    def __init__(self, path: Path, url: str) -> None:
        self.path = path
        write_private(self.path, _REDIRECT.format(url=html.escape(url)).encode(), replace=False)

    def remove(self) -> None:
        """Remove it; it may be gone already."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def has_browser() -> bool:
    """Whether there is a browser that has a window of its own, or that the user has named."""
    if os.environ.get("BROWSER") or sys.platform in ("win32", "darwin"):
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def open_browser(file: RedirectFile) -> bool:
    """Open the file in a browser; this may take as long as the browser is open.

    :returns: whether that was possible.
    """
    try:
        return webbrowser.open(file.path.as_uri())
    except (webbrowser.Error, OSError):
        return False
