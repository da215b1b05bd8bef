"""Completion of the options of ``%px`` and its relatives, and of what ``--targets`` and ``--group-outputs`` take."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from ipython1.kernel.clients.active import active
from ipython1.kernel.clients.pxoptions import ALLOWED, GROUPINGS, OPTIONS

_LINE: Final = re.compile(r"\s*(%%|%)?(?P<magic>pxconfig|pxresult|px|result)(?P<line>\s.*)")
_IDENTIFIER: Final = "ipython1.px"

MOST_IDS: Final = 50
"""Ids that are offered for ``--targets``."""


def completions(text: str, namespace: Mapping[str, Any], ids: Iterable[int]) -> list[str] | None:
    """Return what may stand at the end of a line.

    :param text: the line up to the cursor.
    :param namespace: the session's variables.
    :param ids: the engines' ids.
    :returns: whole words, which begin with the last word of ``text``; None where options cannot stand.
    """
    match = _LINE.fullmatch(text)
    if match is None:
        return None
    allowed = [OPTIONS[name] for name in ALLOWED[match["magic"]]]
    by_name = {f"--{each.name}": each for each in allowed}
    by_name |= {f"-{each.letter}": each for each in allowed if each.letter}
    words = re.split(r"[\s=]", match["line"].lstrip())
    last, before = words[-1], words[:-1]
    wants = by_name.get(before[-1]) if before else None
    if wants is not None and wants.value:
        values = _values(wants.name, namespace, ids)
        return None if values is None else [each for each in values if each.startswith(last)]
    if not last.startswith("-") or not _only_options(before, by_name):
        return None
    return [f"--{each.name}" for each in allowed if f"--{each.name}".startswith(last)]


def _only_options(words: list[str], by_name: Mapping[str, Any]) -> bool:
    """Return whether words are options and their values, so that no code has begun."""
    takes_value = False
    for word in words:
        option = by_name.get(word)
        if option is None and not takes_value and word:
            return False
        takes_value = option is not None and bool(option.value)
    return True


def _values(name: str, namespace: Mapping[str, Any], ids: Iterable[int]) -> list[str] | None:
    if name == "group-outputs":
        return list(GROUPINGS)
    if name != "targets":
        return None
    names = [
        each
        for each, value in namespace.items()
        if not each.startswith("_") and _may_be_targets(value)
    ]
    return ["all", *map(str, list(ids)[:MOST_IDS]), *sorted(names)]


def _may_be_targets(value: Any) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, (list, tuple, range)):
        return 0 < len(value) < 10_000 and all(isinstance(each, int) for each in value)
    return isinstance(value, slice) or (
        not isinstance(value, type) and hasattr(value, "targets") and hasattr(value, "execute")
    )


def install_completer(shell: Any) -> None:
    """Add a matcher to the completer of a session, if that has one."""
    # Not imported before, as it loads what analyses code; a session with a completer has it.
    from IPython.core.completer import SimpleCompletion, context_matcher

    remove_completer(shell)

    @context_matcher(identifier=_IDENTIFIER)
    def px_matcher(context: Any) -> dict[str, Any]:
        client = active.client
        ids = [] if client is None else client.ids
        found = None
        if context.cursor_line == 0:
            found = completions(context.text_until_cursor, shell.user_ns, ids)
        return {
            "completions": [SimpleCompletion(text=each, type="option") for each in found or ()],
            "suppress": bool(found),
        }

    matchers = _matchers_of(shell)
    if matchers is not None:
        matchers.append(px_matcher)


def remove_completer(shell: Any) -> None:
    """Remove it again."""
    matchers = _matchers_of(shell)
    if matchers is not None:
        matchers[:] = [
            each for each in matchers if getattr(each, "matcher_identifier", "") != _IDENTIFIER
        ]


def _matchers_of(shell: Any) -> list[Any] | None:
    return getattr(getattr(shell, "Completer", None), "custom_matchers", None)
