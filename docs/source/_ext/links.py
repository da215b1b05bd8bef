"""Checks links when the pages are built: none leads to nothing.

Sphinx itself follows references between pages and labels.  This adds what it takes as it is:

* an address outside is well formed, begins with ``https``, and is at a host that somebody has looked at
  (:data:`HOSTS`); the builder ``linkcheck`` asks the hosts themselves, which needs a network;
* a path of the source tree that a page names, such as ``docs/examples/first.py``, exists;
* every link of the pages that were made leads to a page, and to a place in it, that exists.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util import logging

log = logging.getLogger(__name__)

HOSTS = {
    "docs.dask.org",
    "docs.python.org",
    "docs.ray.io",
    "distributed.dask.org",
    "github.com",
    "import-linter.readthedocs.io",
    "ipyparallel.readthedocs.io",
    "joblib.readthedocs.io",
    "mpi4py.readthedocs.io",
    "numpy.org",
    "prometheus.io",
    "pypi.org",
    "scikit-learn.org",
    "www.dask.org",
    "www.mpi-forum.org",
    "z2jh.jupyter.org",
}
"""Where links may lead; add a host when you have followed the link."""

KEYS = {"ipython1/cluster", "ipython1/run"}
"""What looks like a path, and is a label of Kubernetes."""

ROOT = Path(__file__).resolve().parents[3]
OURS = "https://github.com/ipython1/ipython1/"
_PATH = re.compile(r"(?:\.ci|docs|ipython1|scripts|tests)/[\w./-]+")
_HREF = re.compile(r'<a\b[^>]*?\shref="([^"]+)"')
_ID = re.compile(r'\s(?:id|name)="([^"]+)"')


def address_problem(address: str) -> str | None:
    """What is wrong with an address outside of these pages."""
    parts = urlsplit(address)
    if parts.scheme == "mailto":
        return None
    if parts.scheme != "https":
        return "it does not begin with https"
    if not parts.hostname or re.search(r"\s", address):
        return "it is not well formed"
    if parts.hostname not in HOSTS:
        return f"the host {parts.hostname} is not in HOSTS of {Path(__file__).name}"
    kind, _, path = address.removeprefix(OURS).partition("/main/")
    if address.startswith(OURS) and kind in ("blob", "tree", "raw") and not (ROOT / path).exists():
        return f"there is no {path}"
    return None


def path_problem(text: str) -> str | None:
    """What is wrong with a path of the source tree, or None, also if ``text`` is none.  Modules may lack ``.py``."""
    if not _PATH.fullmatch(text) or text.startswith("docs/_build") or text in KEYS:
        return None
    there = (ROOT / text).exists() or (ROOT / f"{text}.py").exists()
    return None if there else "there is no such file"


def check_page(app: Sphinx, page: nodes.document) -> None:
    """Warn of addresses and paths in a page."""
    for reference in page.findall(nodes.reference):
        address = reference.get("refuri", "")
        if re.match(r"[a-z]+:", address) and (problem := address_problem(address)):
            log.warning("%s: %s", address, problem, location=reference, type="links")
    for literal in page.findall(nodes.literal):
        if problem := path_problem(literal.astext()):
            log.warning("%s: %s", literal.astext(), problem, location=literal, type="links")


def broken_links(folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the links of HTML pages that lead to nothing, each with its page."""
    texts = {path: path.read_text(encoding="utf-8") for path in folder.rglob("*.html")}
    places = {path: {unescape(name) for name in _ID.findall(text)} for path, text in texts.items()}
    for path, text in texts.items():
        for link in sorted(set(_HREF.findall(text))):
            parts = urlsplit(unescape(link))
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            place = unquote(parts.fragment)
            if not target.exists() or (place and place not in places.get(target, {place})):
                yield path.relative_to(folder), link


def check_site(app: Sphinx, problem: Exception | None) -> None:
    """Warn of links between the pages that were made."""
    if problem is None and app.builder.format == "html":
        for path, link in broken_links(Path(app.outdir).resolve()):
            log.warning("%s: its link %s leads to nothing", path, link, type="links")


def setup(app: Sphinx) -> dict[str, Any]:
    """Called by Sphinx."""
    app.connect("doctree-read", check_page)
    app.connect("build-finished", check_site)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
