"""The options of ``%px``, ``%%px``, ``%pxconfig``, ``%pxresult`` and ``%result``: reading them, and their help."""

from __future__ import annotations

import ast
import inspect
import keyword
import re
import textwrap
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from IPython.core.error import UsageError

from ipython1.core.texts import did_you_mean

F = TypeVar("F", bound=Callable[..., Any])

GROUPINGS: Final = ("engine", "order", "type")
"""How ``%%px`` arranges what several engines wrote and displayed."""

_OPTION: Final = re.compile(
    r"\s*(--(?P<name>[A-Za-z-]*)|-(?P<letter>[A-Za-z]\w*)(?=[=\s]|$))(?P<rest>.*)", re.DOTALL
)
_VALUE: Final = re.compile(
    r"[=\s]\s*(?P<value>\[[^]]*\]|\([^)]*\)|[^\s\[(]\S*)(?P<rest>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Option:
    """An option of a magic.

    :ivar letter: its short form, without the dash; empty if it has none.
    :ivar value: what stands for its value in the help; empty for one without a value.
    :ivar text: what it does.
    """

    name: str
    letter: str
    value: str
    text: str

    @property
    def usage(self) -> str:
        """How it is written."""
        names = f"-{self.letter}, --{self.name}" if self.letter else f"--{self.name}"
        return f"{names} {self.value}".rstrip()


OPTIONS: Final = {
    option.name: option
    for option in (
        Option(
            "targets",
            "t",
            "TARGETS",
            "The engines: all, an id, ids such as 0,2 or 0:4 or ::2, or a variable with such a value "
            "or a view. The default is the client's targets.",
        ),
        Option("block", "b", "", "Wait for the engines. The default is the client's block."),
        Option("noblock", "a", "", "Do not wait; return a PendingResult."),
        Option("out", "o", "NAME", "Store the PendingResult as this variable."),
        Option(
            "group-outputs",
            "g",
            "HOW",
            "engine: all output of an engine, then that of the next (the default). type: first what "
            "all engines printed, then errors, displayed objects and values. order: as type, but the "
            "first displayed object of each engine, then the second of each, and so on.",
        ),
        Option("local", "", "", "Run the code here first, and on the engines if it succeeds."),
        Option(
            "timeout",
            "",
            "SECONDS",
            "The maximum time to wait; then report which engines are done, which failed, and where "
            "the others are.",
        ),
        Option("progress-after", "", "SECONDS", "Show a progress bar after this time."),
        Option(
            "pdb",
            "",
            "",
            "Wait, and when engines raise exceptions, open the debugger at that of the first one.",
        ),
        Option("verbose", "v", "", "Say which engines run the code."),
        Option("reset", "", "", "Forget all defaults."),
        Option("help", "", "", "Show this text."),
    )
}

PX: Final = (
    "targets",
    "block",
    "noblock",
    "out",
    "group-outputs",
    "local",
    "timeout",
    "progress-after",
    "pdb",
    "verbose",
    "help",
)
PXCONFIG: Final = (
    "targets",
    "block",
    "noblock",
    "group-outputs",
    "timeout",
    "progress-after",
    "verbose",
    "reset",
    "help",
)
PXRESULT: Final = ("group-outputs", "timeout", "progress-after", "help")
RESULT: Final = ("targets", "block", "noblock", "help")

ALLOWED: Final[Mapping[str, tuple[str, ...]]] = {
    "px": PX,
    "pxconfig": PXCONFIG,
    "pxresult": PXRESULT,
    "result": RESULT,
}
"""The options of each magic."""


@dataclass(frozen=True, slots=True)
class PxOptions:
    """The options of a magic, or the defaults that ``%pxconfig`` set.

    :ivar targets: the engines, or a client or view that has them; None for the client's targets.
    :ivar block: whether to wait; None for the client's setting.
    :ivar out: the name for the ``PendingResult``; empty for none.
    :ivar group: one of :data:`GROUPINGS`; empty for the default.
    :ivar local: whether to run the code here too, before the engines run it.
    :ivar timeout: seconds after which the wait ends with a report; None for no limit.
    :ivar progress_after: seconds after which a progress bar is shown; None for no bar.
    :ivar pdb: whether to open the debugger at an exception.
    :ivar verbose: whether to say which engines run the code.
    :ivar reset: whether defaults are to be forgotten.
    :ivar help: whether help is wanted.
    """

    targets: Any = None
    block: bool | None = None
    out: str = ""
    group: str = ""
    local: bool = False
    timeout: float | None = None
    progress_after: float | None = None
    pdb: bool = False
    verbose: bool = False
    reset: bool = False
    help: bool = False

    @property
    def needs_call(self) -> bool:
        """Whether more is wanted of the call than to wait for its result."""
        limited = self.timeout is not None or self.progress_after is not None
        return bool(self.out) or self.verbose or limited

    def described(self) -> list[str]:
        """Return the options that are not the default, as a user would write them."""
        targets = self.targets
        if isinstance(targets, slice):
            ends = [targets.start, targets.stop, *([targets.step] if targets.step else [])]
            targets = ":".join("" if each is None else str(each) for each in ends)
        elif isinstance(targets, tuple):
            targets = ",".join(map(str, targets))
        return [
            *([] if targets is None else [f"--targets {targets}"]),
            *([] if self.block is None else ["--block" if self.block else "--noblock"]),
            *([f"--group-outputs {self.group}"] if self.group else []),
            *([] if self.timeout is None else [f"--timeout {self.timeout:g}"]),
            *([] if self.progress_after is None else [f"--progress-after {self.progress_after:g}"]),
            *(["--verbose"] if self.verbose else []),
        ]


def parse_options(
    line: str,
    namespace: Mapping[str, Any],
    allowed: Collection[str] = PX,
    defaults: PxOptions = PxOptions(),
    before_code: bool = True,
) -> tuple[PxOptions, str]:
    """Parse the options at the beginning of ``line``.

    Before code, ``-x`` is an option only if the line is not valid Python as it is.

    :param namespace: the variables that ``--targets`` may name.
    :param allowed: the names of the options that the magic takes.
    :param defaults: those that hold unless the line says something else.
    :param before_code: whether code may follow on the line.
    :returns: the options and the rest of the line.
    :raises UsageError: if an option is unknown or its value is invalid.
    """
    given: dict[str, Any] = {}
    while match := _OPTION.match(line):
        if match["letter"] and before_code and _is_python(line):
            break
        option = _find(match["name"], match["letter"], allowed)
        text, line = _value(option, match["rest"])
        _take(option.name, text, namespace, given)
    _check_together(given)
    if given.get("block") is False:
        given.setdefault("timeout", None)
        given.setdefault("progress_after", None)
    elif (
        given.get("timeout") is not None
        or given.get("progress_after") is not None
        or given.get("pdb")
    ):
        given.setdefault("block", True)
    return replace(defaults, **given), line.lstrip(" \t")


def _find(name: str | None, letter: str | None, allowed: Collection[str]) -> Option:
    known = [OPTIONS[each] for each in allowed]
    for option in known:
        if (letter and option.letter == letter) or (not letter and option.name == name):
            return option
    if letter:
        names = ", ".join(f"-{each.letter}" for each in known if each.letter)
        raise UsageError(f"unknown option -{letter}; the short options are {names}")
    hint = did_you_mean(f"--{name}", [f"--{each}" for each in allowed]) if name else ""
    names = ", ".join(f"--{each}" for each in allowed)
    raise UsageError(f"unknown option --{name}{hint or f'; the options are {names}'}")


def _value(option: Option, rest: str) -> tuple[str, str]:
    """Return the text of an option's value, and what follows it."""
    if not option.value:
        if rest[:1].strip():
            raise UsageError(f"--{option.name} takes no value")
        return "", rest
    found = _VALUE.fullmatch(rest)
    if found is None:
        raise UsageError(f"--{option.name} needs a value: {option.usage}")
    return found["value"], found["rest"]


def _take(name: str, text: str, namespace: Mapping[str, Any], given: dict[str, Any]) -> None:
    match name:
        case "targets":
            given["targets"] = parse_targets(text, namespace)
        case "block" | "noblock":
            if given.setdefault("block", name == "block") != (name == "block"):
                raise UsageError("--block and --noblock exclude each other; use one of them")
        case "out":
            given["out"] = _parse_name(text)
        case "group-outputs":
            given["group"] = _parse_grouping(text)
        case "timeout":
            given["timeout"] = _parse_seconds(name, text, "above 0")
        case "progress-after":
            given["progress_after"] = _parse_seconds(name, text, "of 0 or more")
        case _:
            given[name] = True


def _check_together(given: Mapping[str, Any]) -> None:
    if given.get("block") is False:
        for name in ("timeout", "progress_after", "pdb"):
            if given.get(name) is not None:
                raise UsageError(
                    f"--{name.replace('_', '-')} has no effect with --noblock, which does not wait; use one of them"
                )


def parse_targets(text: str, namespace: Mapping[str, Any]) -> Any:
    """Parse targets: ``all``, ``0``, ``0,2``, ``1:3``, ``[0, 2]``, or a variable with such a value or a view.

    :raises UsageError: if ``text`` is none of these.
    """
    if text == "all":
        return "all"
    if text in namespace:
        return namespace[text]
    if re.fullmatch(r"-?\d*:-?\d*(:-?\d*)?", text):
        return slice(*(int(part) if part else None for part in text.split(":")))
    try:
        targets = eval(text, dict(namespace))
    except Exception:
        targets = ""
    if isinstance(targets, str | bytes | float | dict) and targets != "all":
        raise UsageError(
            f"--targets cannot be {text or repr('')}: give all, an id, ids such as 0,2 or 0:4, or a variable with such "
            "a value"
        )
    return targets


def _parse_name(text: str) -> str:
    if not text.isidentifier() or keyword.iskeyword(text):
        raise UsageError(f"--out needs the name of a variable, not {text}")
    return text


def _parse_grouping(text: str) -> str:
    if text not in GROUPINGS:
        hint = did_you_mean(text, GROUPINGS)
        raise UsageError(
            f"--group-outputs must be {', '.join(GROUPINGS[:-1])} or {GROUPINGS[-1]}, not {text}{hint}"
        )
    return text


def _parse_seconds(name: str, text: str, which: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf") or (name == "timeout" and seconds == 0):
        raise UsageError(f"--{name} must be a number of seconds {which}, not {text}")
    return seconds


def _is_python(text: str) -> bool:
    """Return whether a line can be compiled as it is."""
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    try:
        compile(text.strip(), "<px>", "exec", flags)
    except (SyntaxError, ValueError):
        return False
    return True


def help_of(allowed: Collection[str]) -> str:
    """Return the part of a magic's help that describes its options."""
    return "\n".join(
        f"{OPTIONS[name].usage}\n{textwrap.indent(textwrap.fill(OPTIONS[name].text, 88), '    ')}"
        for name in allowed
    )


def with_options(magic: str) -> Callable[[F], F]:
    """Decorate the method of a magic: its options are added to its docstring, which ``%px?`` shows."""

    def decorate(method: F) -> F:
        text = inspect.cleandoc(method.__doc__ or "")
        method.__doc__ = f"{text}\n\nOptions:\n\n{help_of(ALLOWED[magic])}\n"
        return method

    return decorate
