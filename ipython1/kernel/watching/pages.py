"""The files of the monitor's page, as they are in the package."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import files
from typing import Final

_TYPES: Final = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


@dataclass(frozen=True, slots=True)
class PageFile:
    """A file of the page."""

    content_type: str
    data: bytes


def page_files() -> dict[str, PageFile]:
    """Read all files of the page; by name."""
    found = {}
    for each in files("ipython1.kernel.watching").joinpath("web").iterdir():
        content_type = _TYPES.get(each.name.rpartition(".")[2])
        if content_type is not None:
            found[each.name] = PageFile(content_type, each.read_bytes())
    return found
