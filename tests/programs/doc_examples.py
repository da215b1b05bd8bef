"""The examples in the documentation: find them in a page, and say what each of them expects.

A page is reStructuredText.  Its examples are ``code-block`` and ``literalinclude`` directives, each with a language
that says how it is tested:

============  ==================================================================================
language      what the test does
============  ==================================================================================
``pycon``     runs the code after ``>>>`` in order, and compares its output
``ipython``   the same for ``In [1]:`` and ``Out[1]:``, in an IPython shell, magics included
``python``    runs it, in order with the others, and expects no output
``console``   checks that each command after ``$`` exists and accepts its options
``ini``       reads and validates it as the configuration file that its caption names
``text``      nothing: it marks examples that cannot be tested
============  ==================================================================================

In an example's output, ``...`` matches anything, and a date with a time matches any other.
"""

from __future__ import annotations

import doctest
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

LANGUAGES = ("pycon", "ipython", "python", "console", "ini", "text")
SESSIONS = ("pycon", "ipython", "python")

_DIRECTIVE = re.compile(
    r"(?P<indent> *)\.\. (?P<name>code-block|literalinclude):: *(?P<argument>.*)"
)
_OPTION = re.compile(r" *:(?P<name>[a-z-]+):(?: +(?P<value>.*))?$")
_COMMENT = re.compile(r" *\.\.(?: |$)")
_PROMPTS = {
    "pycon": (re.compile(r">>> ?(.*)"), re.compile(r"\.\.\.(?: (.*)|$)")),
    "ipython": (re.compile(r"In \[\d+\]: ?(.*)"), re.compile(r" +\.{3,}: ?(.*)")),
}
_OUT = re.compile(r"^Out\[\d+\]: ?\n?", re.MULTILINE)
_VARIES = (
    (re.compile(r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"), "2008/03/08 03:41:42"),
    (re.compile(r"'duration': [\d.e-]+"), "'duration': 0.1"),
    (re.compile(r"(?:<[\w.]+, line \d+>|Cell In\[\d+\]), line"), "Cell In[1], line"),
)
_TRACEBACK = "Traceback (most recent call last)"
_COMPARE = doctest.OutputChecker()
_OPTIONS = doctest.ELLIPSIS | doctest.DONT_ACCEPT_BLANKLINE


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code in a page.

    :ivar line: where its text begins, from 1.
    :ivar language: of :data:`LANGUAGES`; empty for a literal block that does not say.
    :ivar argument: for ``literalinclude``, the file.
    """

    line: int
    language: str
    text: str
    options: dict[str, str] = field(default_factory=dict)
    argument: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One input of a user, and the output that follows.

    :ivar line: of the prompt, in its page, from 1.
    :ivar want: without white space at its ends.
    """

    line: int
    language: str
    source: str
    want: str

    def matches(self, shown: str) -> bool:
        """Whether ``shown`` is the expected output."""
        want, got = self.want, shown
        if self.language == "ipython":
            want, got = (re.sub(r"\s+", " ", _OUT.sub("", text)) for text in (want, got))
        return _COMPARE.check_output(_trimmed(want), _trimmed(got), _OPTIONS)

    def matches_error(self, name: str, message: str) -> bool:
        """Whether an exception with this type name and this text is expected."""
        if _TRACEBACK not in self.want:
            return False
        lines = self.want.split("\n")
        # The last line that can begin an exception's message; more lines of the message may follow it.
        begins = [
            n
            for n, line in enumerate(lines)
            if re.match(rf"([\w.]+\.)?{re.escape(name)}(:|$)", line)
        ]
        if not begins:
            return False
        want = "\n".join(lines[begins[-1] :])
        shown = f"{name}: {message}" if message else name
        return _COMPARE.check_output(_trimmed(want[want.index(name) :]), _trimmed(shown), _OPTIONS)


def _trimmed(text: str) -> str:
    for pattern, stand_in in _VARIES:
        text = pattern.sub(stand_in, text)
    return "\n".join(line.rstrip() for line in text.strip("\n").split("\n")).rstrip() + "\n"


def find_blocks(text: str) -> list[Block]:
    """Every block of code of a page, and every other literal block (with an empty language)."""
    return list(_find_blocks(text.split("\n")))


def _find_blocks(lines: list[str]) -> Iterator[Block]:
    number = 0
    while number < len(lines):
        line = lines[number]
        directive = _DIRECTIVE.fullmatch(line.rstrip())
        if directive:
            options, begin = _options(lines, number + 1)
            end = _end_of_indented(lines, begin, len(directive["indent"]))
            text = textwrap.dedent("\n".join(lines[begin:end]))
            if directive["name"] == "code-block":
                yield Block(begin + 1, directive["argument"], text.strip("\n"), options)
            else:
                yield Block(
                    number + 1, options.get("language", ""), "", options, directive["argument"]
                )
            number = end
        elif _COMMENT.match(line):
            # Another directive: its content is ordinary text.
            number += 1
        elif line.rstrip().endswith("::"):
            begin = _skip_blank(lines, number + 1)
            indent = len(line) - len(line.lstrip())
            end = _end_of_indented(lines, begin, indent)
            if end > begin:
                yield Block(begin + 1, "", textwrap.dedent("\n".join(lines[begin:end])).strip("\n"))
            number = max(end, number + 1)
        elif line.lstrip().startswith(">>> "):
            begin = number
            while number < len(lines) and lines[number].strip():
                number += 1
            yield Block(begin + 1, "", textwrap.dedent("\n".join(lines[begin:number])))
        else:
            number += 1


def _options(lines: list[str], number: int) -> tuple[dict[str, str], int]:
    options = {}
    while number < len(lines) and (match := _OPTION.match(lines[number])):
        options[match["name"]] = match["value"] or ""
        number += 1
    return options, _skip_blank(lines, number)


def _skip_blank(lines: list[str], number: int) -> int:
    while number < len(lines) and not lines[number].strip():
        number += 1
    return number


def _end_of_indented(lines: list[str], begin: int, indent: int) -> int:
    number = end = begin
    while number < len(lines):
        line = lines[number]
        if line.strip():
            if len(line) - len(line.lstrip()) <= indent:
                break
            end = number + 1
        number += 1
    return end


def find_examples(text: str) -> list[Example]:
    """Everything to run in a page, in order."""
    examples: list[Example] = []
    for block in find_blocks(text):
        if block.language == "python" and not block.argument:
            examples.append(Example(block.line, "python", block.text + "\n", ""))
        elif block.language in _PROMPTS:
            examples += split_session(block)
    return examples


def split_session(block: Block) -> list[Example]:
    """The examples of a block with prompts.

    :raises ValueError: if it does not begin with a prompt.
    """
    prompt, continuation = _PROMPTS[block.language]
    examples: list[Example] = []
    source: list[str] = []
    want: list[str] = []
    begin = 0

    def finish() -> None:
        if source:
            shown = "\n".join(want).strip("\n")
            examples.append(Example(begin, block.language, "\n".join(source) + "\n", shown))

    for number, line in enumerate(block.text.split("\n"), block.line):
        if first := prompt.fullmatch(line):
            finish()
            source, want, begin = [first[1]], [], number
        elif source and not want and (more := continuation.fullmatch(line)):
            source.append(more[1] or "")
        elif source:
            want.append(line)
        elif line.strip():
            raise ValueError(f"line {number}: {line!r} stands before the first prompt")
    finish()
    return examples


def find_commands(block: Block) -> list[tuple[int, str]]:
    """The commands of a ``console`` block, each with its line; a line that ends with ``\\`` is continued."""
    commands: list[tuple[int, str]] = []
    lines = iter(enumerate(block.text.split("\n"), block.line))
    for number, line in lines:
        if line.startswith("$ "):
            command = line[2:]
            while command.endswith("\\"):
                command = command[:-1] + next(lines)[1].strip()
            commands.append((number, command))
    return commands


def pages(docs: Path) -> list[Path]:
    """All pages of the documentation."""
    return sorted(
        path for path in docs.rglob("*.txt") if "_build" not in path.relative_to(docs).parts
    )
