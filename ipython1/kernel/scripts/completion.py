"""Completion of command lines by the shell, with ``argcomplete``: words, options, clusters and engines.

This is loaded only when a shell asks, so it costs commands nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.scripts import clusteroptions, controlleroptions, engineoptions, furlactions
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import STARTING, WORDS, files_of

_FILES_PATTERN: Final = "ipcontroller*.lock"


def complete(program: str) -> None:
    """Answer the shell, and end the process.

    :param program: ``ipcluster``, ``ipcontroller`` or ``ipengine``.
    """
    import argcomplete

    line = os.environ.get("COMP_LINE", "")
    argcomplete.autocomplete(completion_parser(program, line.split()))


def completion_parser(program: str, words: Sequence[str]) -> argparse.ArgumentParser:
    """Return a parser that knows all that can follow on a command line.

    :param words: those of the command line; what others would lead to is left out.
    """
    makers: dict[str, Callable[[Sequence[str]], argparse.ArgumentParser]] = {
        "ipcluster": _cluster_parser,
        "ipcontroller": _controller_parser,
        "ipengine": lambda words: engineoptions.make_parser(),
    }
    parser = makers[program](words)
    _add_completers(parser)
    return parser


def _cluster_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = OneLineParser("ipcluster", allow_abbrev=False)
    clusteroptions.add_options(parser)
    subparsers = parser.add_subparsers(dest="action")
    kinds = clusteroptions.known_kinds()
    for word, known in WORDS.items():
        parents = [known.load().make_parser()] if word in words else []
        subparsers.add_parser(word, parents=parents, add_help=False, help=known.help)
    for word in (*STARTING, *kinds):
        below = subparsers.add_parser(word, help=_help_of(word))
        if word in words:
            clusteroptions.add_options(below)
            if word in STARTING:
                below.add_argument("kind", nargs="?", choices=kinds)
    return parser


def _help_of(word: str) -> str:
    if word == "start":
        return "start a cluster"
    return "start more engines" if word == "engines" else f"start a cluster of kind {word}"


def _controller_parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = controlleroptions.make_parser()
    subparsers = parser.add_subparsers(dest="action")
    parents = [furlactions.make_parser()] if "furl" in words else []
    subparsers.add_parser(
        "furl", parents=parents, add_help=False, help="show and replace FURLs, and end connections"
    )
    return parser


def _add_completers(parser: argparse.ArgumentParser) -> None:
    completers = {
        "cluster_id": _cluster_ids,
        "ids": _engine_ids,
        "what": _logs,
        "word": lambda **_: [*WORDS, *STARTING],
    }
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below in action.choices.values():
                _add_completers(below)
        elif action.dest in completers and not action.choices:
            setattr(action, "completer", completers[action.dest])  # noqa: B010


def _cluster_ids(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from ipython1.kernel.host.security import IPythonDirs

    security = IPythonDirs.resolve(getattr(parsed_args, "ipython_dir", None)).security
    names = [path.stem for path in Path(security).glob(_FILES_PATTERN)]
    return sorted(each for each in (name.partition("-")[2] for name in names) if each)


def _engine_ids(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    from ipython1.kernel.clusters.status import read_state

    with contextlib.suppress(KernelError):
        state = read_state(files_of(parsed_args).state)
        if state is not None:
            return [str(engine.id) for engine in state.engines]
    return []


def _logs(parsed_args: argparse.Namespace, **_: Any) -> list[str]:
    given = parsed_args.what or []
    if given and given[-1] == "engine":
        return _engine_ids(parsed_args)
    return ["controller", "engine", "ipcluster", *_engine_ids(parsed_args)]
