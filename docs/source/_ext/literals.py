"""Keeps options such as ``--restart-engines`` in one piece: browsers would break them after a hyphen."""

from __future__ import annotations

import re

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

LONGEST = 26
"""Characters that still fit in a line on a phone."""

_WITH_HYPHEN = re.compile(r"\S*-\S*")


class WholeLiterals(SphinxPostTransform):
    """Gives short literals with hyphens a class of their own; the style sheet does the rest."""

    default_priority = 500

    def run(self, **kwargs: object) -> None:
        for literal in self.document.findall(nodes.literal):
            text = literal.astext()
            if len(text) <= LONGEST and _WITH_HYPHEN.fullmatch(text):
                literal["classes"].append("whole")


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_post_transform(WholeLiterals)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
