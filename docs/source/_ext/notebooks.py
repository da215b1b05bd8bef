"""The directive ``.. notebook:: FILE``, which shows a Jupyter notebook with the outputs that it was stored with.

The page has its own title, so the notebook's first heading is left out; its other headings become sections of the page.
``:alt:`` describes its figures.  Markdown, outputs or MIME types that cannot be shown are an error, not left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

from docutils import nodes
from docutils.parsers.rst import directives
from markdown_it import MarkdownIt
from markdown_it.token import Token
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

_MADE_OF = {
    "blockquote_open": nodes.block_quote,
    "bullet_list_open": nodes.bullet_list,
    "em_open": nodes.emphasis,
    "list_item_open": nodes.list_item,
    "ordered_list_open": nodes.enumerated_list,
    "paragraph_open": nodes.paragraph,
    "strong_open": nodes.strong,
}


class Notebook(SphinxDirective):
    """A notebook's text, code and outputs."""

    required_arguments = 1
    final_argument_whitespace = True
    option_spec: ClassVar[dict[str, Any]] = {"alt": directives.unchanged_required}

    def run(self) -> list[nodes.Node]:
        relative, path = self.env.relfn2path(self.arguments[0])
        self.env.note_dependency(relative)
        notebook = json.loads(Path(path).read_text(encoding="utf-8"))
        top = nodes.Element()
        place = top
        for cell in notebook["cells"]:
            source = "".join(cell["source"])
            if cell["cell_type"] == "code":
                place += _literal(source, "python", "notebook-input")
                place.extend(self._outputs(cell["outputs"]))
                continue
            for heading, tokens in _parts(MarkdownIt().parse(source)):
                if heading:
                    place = self._section(heading)
                    top += place
                self._fill(place, tokens)
        return top.children

    def _section(self, heading: Token) -> nodes.section:
        section = nodes.section()
        title = nodes.title()
        self._fill(title, heading.children or [])
        section["names"].append(nodes.fully_normalize_name(title.astext()))
        section += title
        self.state.document.note_implicit_target(section, section)
        return section

    def _fill(self, parent: nodes.Element, tokens: Iterable[Token]) -> None:
        """Add what Markdown says to a node."""
        stack = [parent]
        for token in tokens:
            if token.nesting == -1:
                stack.pop()
            elif token.nesting == 1:
                node = self._element(token)
                stack[-1] += node
                stack.append(node)
            elif token.type == "inline":
                self._fill(stack[-1], token.children or [])
            else:
                stack[-1] += self._leaf(token)

    def _element(self, token: Token) -> nodes.Element:
        if token.type == "link_open":
            return nodes.reference(refuri=str(token.attrs["href"]))
        if token.type not in _MADE_OF:
            raise self.error(f"{self.arguments[0]}: cannot show the Markdown {token.type}")
        return _MADE_OF[token.type]()

    def _leaf(self, token: Token) -> nodes.Node:
        if token.type == "text":
            return nodes.Text(token.content)
        if token.type == "softbreak":
            return nodes.Text("\n")
        if token.type == "code_inline":
            return nodes.literal(token.content, token.content)
        if token.type == "fence":
            return _literal(token.content.rstrip(), token.info or "none")
        raise self.error(f"{self.arguments[0]}: cannot show the Markdown {token.type}")

    def _outputs(self, outputs: list[dict[str, Any]]) -> Iterator[nodes.Node]:
        for output in outputs:
            if output["output_type"] == "stream":
                yield _literal("".join(output["text"]).rstrip(), "none", "notebook-output")
            elif "data" in output:
                yield self._displayed(output["data"])
            else:
                raise self.error(f"{self.arguments[0]}: an output is an {output['output_type']}")

    def _displayed(self, data: dict[str, Any]) -> nodes.Node:
        """The richest form of an object that the page can show."""
        if "image/png" in data:
            png = "".join("".join(data["image/png"]).split())
            uri = f"data:image/png;base64,{png}"
            return nodes.image(uri=uri, alt=self.options.get("alt", ""))
        if "text/html" in data:
            html = nodes.raw("", "".join(data["text/html"]), format="html")
            return nodes.container("", html, classes=["notebook-html"])
        return _literal("".join(data["text/plain"]), "none", "notebook-output")


def _parts(tokens: list[Token]) -> Iterator[tuple[Token | None, list[Token]]]:
    """Each heading below the first level, or None, with what follows it."""
    heading: Token | None = None
    body: list[Token] = []
    for before, token in zip([None, *tokens], tokens, strict=False):
        if before is not None and before.type == "heading_open":
            if before.tag != "h1":
                yield heading, body
                heading, body = token, []
        elif not token.type.startswith("heading"):
            body.append(token)
    yield heading, body


def _literal(text: str, language: str, *classes: str) -> nodes.literal_block:
    return nodes.literal_block(text, text, language=language, classes=list(classes))


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("notebook", Notebook)
    app.add_css_file("notebooks.css")
    return {"parallel_read_safe": True, "parallel_write_safe": True}
