"""A directive for drawings: it puts an SVG file into the page itself, so that it has the colors of the page.

``.. drawing:: /pictures/task.svg`` takes a caption as its content.  A drawing has a ``title`` and a ``desc`` for those
who cannot see it, a ``viewBox``, so that it fits any screen, and no colors of its own: the style sheet gives them.
"""

from __future__ import annotations

import re
from pathlib import Path

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

NEEDED = ('class="drawing"', "viewBox=", "<title ", "<desc ")
_COLOR = re.compile(r'(?:fill|stroke)[=:]\s*"?\s*(?!none)[^"]|style=')


class Drawing(SphinxDirective):
    """An SVG file of the documentation, in the page itself."""

    required_arguments = 1
    has_content = True

    def run(self) -> list[nodes.Node]:
        relative, absolute = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        try:
            text = Path(absolute).read_text(encoding="utf-8")
        except OSError as problem:
            raise self.error(f"the drawing cannot be read: {problem}") from None
        for wrong in problems(text):
            self.state.document.reporter.warning(f"{relative}: {wrong}", line=self.lineno)
        figure = nodes.figure(classes=["drawn"])
        self.set_source_info(figure)
        figure += nodes.raw("", text, format="html")
        if self.content:
            caption = nodes.caption()
            caption.extend(self.state.inline_text(" ".join(self.content), self.lineno)[0])
            figure += caption
        return [figure]


def problems(text: str) -> list[str]:
    """What is wrong with the text of a drawing."""
    wrong = [f"the drawing has no {needed.strip('<= ')}" for needed in NEEDED if needed not in text]
    if _COLOR.search(text):
        wrong.append("the drawing has colors of its own, which would not follow dark mode")
    return wrong


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("drawing", Drawing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
