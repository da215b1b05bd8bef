"""Write the manual pages of the commands from their parsers: ``python docs/source/_ext/manpages.py``.

They are kept in ``docs/man``, and a test holds them to what this module makes.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
sys.path[:0] = [str(HERE), str(ROOT)]

from from_the_code import PARSERS, Options, command_parser  # noqa: E402

import ipython1  # noqa: E402

FOLDER = ROOT / "docs" / "man"

FILES = {
    "~/.ipython/ipython1.kernel.ini": "settings; the command line is over them",
    "~/.ipython/security": "keys and FURLs, which only you can read",
    "~/.ipython/log": "what the processes log",
}
ENVIRONMENT = {
    "IPYTHONDIR": "a directory to use instead of ~/.ipython",
    "IPYTHON1_ENGINE_FURL": "the FURL by which engines find the controller",
    "IPYTHON1_ENGINE_FURL_FILE": "a file that holds it",
}
STATUS = {
    "0": "all went well",
    "1": "something failed, and the last line says what",
    "2": "the command line is wrong",
}

_SPECIAL = {"\\": r"\e", "'": r"\(aq", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_INDENTED = "  "


def pages() -> dict[str, str]:
    """The text of each manual page, by the name of its file."""
    return {f"{name.replace(' ', '-')}.1": page(name) for name in PARSERS}


def page(name: str) -> str:
    """The manual page of a command, or of one of its words."""
    parser = command_parser(name)
    return "\n".join([*_head(name, parser), *_options(parser), *_end(name, parser)]) + "\n"


def _head(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    title = name.replace(" ", "-")
    description = (parser.description or "").strip()
    first, _, rest = description.partition("\n\n")
    summary, _, more = " ".join(first.split()).partition(". ")
    yield '.\\" Made of the parser by docs/source/_ext/manpages.py; do not edit.'
    yield f'.TH "{title.upper()}" 1 {_date()} "ipython1 {ipython1.__version__}" "ipython1"'
    yield from (".SH NAME", f"{title} \\- {_prose(_lower(summary.rstrip('.')))}", ".SH SYNOPSIS")
    yield from _synopsis(name, parser)
    yield ".SH DESCRIPTION"
    yield _prose(f"{summary.rstrip('.')}. {more}".strip())
    yield from _paragraphs(rest)


def _date() -> str:
    """The day of the release, which CITATION.cff knows."""
    found = re.search(r"^date-released: (\S+)$", (ROOT / "CITATION.cff").read_text(), re.M)
    assert found is not None
    return found[1]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]


def _synopsis(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    words = " ".join(map(_positional, parser._get_positional_actions()))
    usages = parser.usage.splitlines() if parser.usage else [f"{name} [options] {words}"]
    for number, usage in enumerate(usages):
        if number:
            yield ".br"
        command = "ipcluster" if name == "ipcluster" else name
        rest = usage.replace("%(prog)s", command).strip().removeprefix(command).strip()
        yield f".B {_literal(command)}"
        yield re.sub(r"[\w-]+", lambda word: f"\\fI{_literal(word[0])}\\fR", rest)


def _positional(action: argparse.Action) -> str:
    shown = str(action.metavar or action.dest)
    match action.nargs:
        case "?":
            return f"[{shown}]"
        case "*":
            return f"[{shown} ...]"
        case "+" | argparse.PARSER:
            return f"{shown} ..."
    return shown


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs, in which indented lines are shown as they are."""
    for stanza in filter(None, re.split(r"\n\s*\n", text.strip("\n"))):
        lines = stanza.split("\n")
        prose = [line for line in lines if not line.startswith(_INDENTED)]
        yield ".PP"
        if prose:
            joined = " ".join(prose)
            yield _prose(f"{joined[:1].upper()}{joined[1:]}")
        yield from _as_it_is([line for line in lines if line.startswith(_INDENTED)])


def _as_it_is(lines: list[str]) -> Iterator[str]:
    if lines:
        yield from (".RS 2", ".nf", *(_line(_literal(line[2:])) for line in lines), ".fi", ".RE")


def _options(parser: argparse.ArgumentParser) -> Iterator[str]:
    title = "OPTIONS"
    for group in parser._action_groups:
        actions = [each for each in group._group_actions if each.help != argparse.SUPPRESS]
        if not actions:
            continue
        if group.title == "positional arguments":
            yield ".SH ARGUMENTS"
        elif group.title == "options":
            yield f".SH {title}"
        else:
            yield f'.SS "{_prose(group.title or "")}"'
        for action in actions:
            if isinstance(action, argparse._SubParsersAction):
                yield from _actions(action)
            else:
                yield from _option(action)


def _option(action: argparse.Action) -> Iterator[str]:
    value = ""
    if not action.option_strings:
        value = f"\\fI{_literal(_positional(action))}\\fR"
    elif action.nargs != 0:
        shown = f"\\fI{_literal(str(action.metavar or action.dest.upper()))}\\fR"
        value = f" [{shown}]" if action.nargs == "?" else f" {shown}"
    names = ", ".join(f"\\fB{_literal(name)}\\fR" for name in action.option_strings)
    yield from (".TP", f"{names}{value}")
    text = Options._help(action)
    yield _prose(text) if text.strip(".") else "See the manual of the batch system."


def _actions(parts: argparse._SubParsersAction[argparse.ArgumentParser]) -> Iterator[str]:
    """The actions that a parser has below it, each with its options."""
    for name, parser in parts.choices.items():
        words = " ".join([name, *map(_positional, parser._get_positional_actions())])
        yield f'.SS "{_literal(words)}"'
        yield _prose(parser.description or "")
        for action in parser._actions:
            if action.help != argparse.SUPPRESS and not isinstance(action, argparse._HelpAction):
                yield from _option(action)


def _end(name: str, parser: argparse.ArgumentParser) -> Iterator[str]:
    examples = (parser.epilog or "").partition("examples:\n")[2]
    if examples:
        yield from (".SH EXAMPLES", *_as_it_is(examples.rstrip().split("\n")))
    for title, entries in (
        ("EXIT STATUS", STATUS),
        ("ENVIRONMENT", ENVIRONMENT),
        ("FILES", FILES),
    ):
        yield f".SH {title}"
        for entry, text in entries.items():
            yield from (
                ".TP",
                f"\\fB{_literal(entry)}\\fR",
                _prose(f"{text[0].upper()}{text[1:]}."),
            )
    yield ".SH SEE ALSO"
    first = name.partition(" ")[0]
    near = [other for other in PARSERS if other != name and other.partition(" ")[0] == first]
    others = [other for other in PARSERS if " " not in other and other != first]
    shown = sorted(other.replace(" ", "-") for other in [*near, *others])
    # Names are not to be broken.
    yield ".nh"
    yield from (f".BR {_literal(other)} (1)," for other in shown[:-1])
    yield f".BR {_literal(shown[-1])} (1)"


def _literal(text: str) -> str:
    """Text in which every character is meant as it is typed."""
    for character, escape in {**_SPECIAL, "-": r"\-"}.items():
        text = text.replace(character, escape)
    return text


def _prose(text: str) -> str:
    """Text in which only options are meant as they are typed."""
    words = []
    for word in text.split():
        is_option = re.match(r"[(\[\"']*-", word) or "=--" in word
        shown = _literal(word) if is_option else word
        if not is_option:
            for character, escape in _SPECIAL.items():
                shown = shown.replace(character, escape)
        words.append(shown)
    return _line(" ".join(words))


def _line(text: str) -> str:
    """A line that is no request, whatever it begins with."""
    return f"\\&{text}" if text.startswith((".", "'")) else text


def main() -> None:
    """Write all pages."""
    FOLDER.mkdir(exist_ok=True)
    made = pages()
    for path in FOLDER.glob("*.1"):
        if path.name not in made:
            path.unlink()
    for name, text in made.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
