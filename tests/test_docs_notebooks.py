"""The directive that shows notebooks in the documentation."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.trial import unittest

from tests.test_docs import DOCS

PNG = "iVBORw0KGgo="


def markdown(text: str) -> dict[str, Any]:
    """A cell with text."""
    return {"cell_type": "markdown", "source": text.splitlines(keepends=True)}


def code(text: str, *outputs: dict[str, Any]) -> dict[str, Any]:
    """A cell with code."""
    return {"cell_type": "code", "source": [text], "outputs": list(outputs)}


def shown(**data: str) -> dict[str, Any]:
    """An output that is an object."""
    kinds = {"png": "image/png", "html": "text/html", "text": "text/plain"}
    return {
        "output_type": "display_data",
        "data": {kinds[kind]: [value] for kind, value in data.items()},
    }


class NotebookTests(unittest.SynchronousTestCase):
    if importlib.util.find_spec("sphinx") is None:
        skip = "sphinx is not installed (the extra 'docs')"

    def build(self, *cells: dict[str, Any]) -> tuple[str, str]:
        """Build a page with a notebook; return it, and what Sphinx complained about."""
        from sphinx.application import Sphinx

        directory = tempfile.TemporaryDirectory(prefix="ipython1-notebook-")
        self.addCleanup(directory.cleanup)
        source, made = Path(directory.name) / "source", Path(directory.name) / "made"
        source.mkdir()
        (source / "index.txt").write_text(
            "Title\n=====\n\n.. notebook:: some.ipynb\n   :alt: a figure\n\nLater\n-----\n"
        )
        (source / "some.ipynb").write_text(json.dumps({"cells": cells}))
        self.patch(sys, "path", [str(DOCS / "_ext"), *sys.path])
        warnings = io.StringIO()
        app = Sphinx(
            os.fspath(source),
            None,
            os.fspath(made),
            os.fspath(made),
            "html",
            {"extensions": ["notebooks"], "source_suffix": ".txt", "html_theme": "basic"},
            status=None,
            warning=warnings,
        )
        app.build()
        return (made / "index.html").read_text(encoding="utf-8"), warnings.getvalue()

    def test_text_code_and_outputs(self) -> None:
        """All is there in order; the first heading is not, and others are sections of the page."""
        page, warnings = self.build(
            markdown(
                "# Its own title\n\nSome *soft*, **loud** and `literal` words,\n\n* one\n* two"
            ),
            code("first = 1", {"output_type": "stream", "text": ["printed\n"]}),
            markdown("## A part of it\n\nSee [there](https://docs.python.org/3/)."),
            code("second = 2", shown(html="<table><tr><td>cell</td></tr></table>", text="no")),
            code("third = 3", shown(png=PNG, text="no"), shown(text="&lt;plain&gt;")),
        )
        self.assertNotIn("Its own title", page)
        places = [
            "<h1>Title",
            "<em>soft</em>",
            "<strong>loud</strong>",
            '<span class="pre">literal</span>',
            "<li><p>two</p></li>",
            "first",
            "printed",
            '<section id="a-part-of-it">',
            'href="https://docs.python.org/3/">there</a>',
            "second",
            "<td>cell</td>",
            "third",
            f'<img alt="a figure" src="data:image/png;base64,{PNG}"',
            "&amp;lt;plain&amp;gt;",
            '<section id="later">',
        ]
        found = [page.find(place) for place in places]
        self.assertNotIn(-1, found, dict(zip(places, found, strict=True)))
        self.assertEqual(found, sorted(found))
        self.assertNotIn(">no<", page)
        self.assertEqual(warnings, "")

    def test_what_cannot_be_shown_is_not_left_out_silently(self) -> None:
        _, warnings = self.build(markdown("Text <b>with HTML</b>."))
        self.assertIn("cannot show the Markdown html_inline", warnings)
        _, warnings = self.build(code("1/0", {"output_type": "error", "traceback": []}))
        self.assertIn("some.ipynb: an output is an error", warnings)
