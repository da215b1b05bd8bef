"""What all command lines have in common: the parser, options, and kinds of values."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from ipython1.config import ConfigError
from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.config import config_manager
from ipython1.kernel.config.logsettings import LOG_LEVELS
from ipython1.kernel.host.commonconfig import STANDARD_ERROR
from ipython1.kernel.host.furl import check_host, check_location
from ipython1.kernel.host.security import check_cluster_id
from ipython1.version import __version__

T = TypeVar("T")

MOST_IDS = 100_000
"""Ids in a range of ids; more can only be a slip of the fingers."""


class UsageError(Exception):
    """The command line does not fit together, or not with the ini file."""


class OneLineParser(argparse.ArgumentParser):
    """Tells wrong usage in one line.

    :ivar words: what may stand in the place of the first option.
    """

    words: Sequence[str] = ()

    def error(self, message: str) -> NoReturn:
        meant = self._meant(message)
        self.exit(2, f"{self.prog}: {message}{meant} (see {self.prog} --help)\n")

    def _meant(self, message: str) -> str:
        kind, _, wrong = message.partition("unrecognized arguments: ")
        if wrong and not kind:
            word = re.split("[ =]", wrong, maxsplit=1)[0]
            return did_you_mean(word, [*self._known_options(), *self.words])
        choice = re.search(r"invalid choice: '(.*?)' \(choose from (.*)\)", message)
        if choice is None:
            return ""
        return did_you_mean(choice[1], re.findall(r"[\w-]+", choice[2]))

    def _known_options(self) -> Iterator[str]:
        yield from self._option_string_actions
        for action in self._actions:
            if isinstance(action, argparse._SubParsersAction):
                for parser in action.choices.values():
                    yield from parser._option_string_actions


def make_parser(name: str, description: str, examples: str = "") -> OneLineParser:
    """A parser with the options that all commands have.

    :param examples: lines that its help ends with.
    """
    # An abbreviation that works today would break when a longer option comes.
    parser = OneLineParser(
        name,
        description=description,
        epilog=f"examples:\n{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_common_options(parser)
    return parser


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """``--ipython-dir``, ``--cluster-id``, ``-l/--logfile``, ``--log-level`` and ``--version``."""
    parser.add_argument(
        "--ipython-dir",
        type=directory,
        metavar="DIR",
        help="where configuration, keys and logs are (default: $IPYTHONDIR or ~/.ipython)",
    )
    parser.add_argument(
        "--cluster-id",
        type=cluster_id,
        default="",
        metavar="ID",
        help="distinguishes several clusters in one directory",
    )
    parser.add_argument(
        "-l",
        "--logfile",
        type=log_file,
        metavar="FILE",
        help="log to this file instead of the directory's log/; - means standard error",
    )
    parser.add_argument(
        "--log-level",
        choices=LOG_LEVELS,
        metavar="LEVEL",
        help=f"the lowest severity to log: {', '.join(LOG_LEVELS)}",
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {__version__}")


SIDES = (("client", "clients", ""), ("engine", "engines", "; the clients' unless given"))
"""The two sides of a controller: the prefix of their options, who connects there, and what their options' help ends
with."""


def add_address_options(group: Any, side: str, who: str, otherwise: str) -> None:
    """``--client-ip``, ``--client-port`` and ``--client-location``, or those of the engines' side.

    For clients and so for both there is also ``--interface``, another name for ``--client-ip``.

    :param group: a parser, or a group of one.
    :param side: and the others: an entry of :data:`SIDES`.
    """
    also = ("--interface",) if side == "client" else ()
    group.add_argument(
        f"--{side}-ip",
        *also,
        type=address,
        metavar="IP",
        help=f"the address or network interface to listen on; empty means all addresses of this host{otherwise}",
    )
    group.add_argument(
        f"--{side}-port",
        type=port,
        metavar="PORT",
        help=f"the port to listen on; 0 means any free port{otherwise}",
    )
    group.add_argument(
        f"--{side}-location",
        type=location,
        metavar="HOST[:PORT]",
        help=f"the address at which {who} reach the controller, for the FURL{otherwise}",
    )


def add_journal_option(parser: Any) -> None:
    """``--journal``."""
    parser.add_argument(
        "--journal",
        type=on_or_off,
        metavar="on|off",
        help="whether the controller writes down what it must not lose when it ends unexpectedly",
    )


def read_settings(
    parser: argparse.ArgumentParser,
    given: argparse.Namespace,
    build: Callable[[argparse.Namespace, dict[str, Any]], T],
) -> T:
    """What ``build`` makes of the command line and the kernel's ini file.

    :raises SystemExit: with one line on standard error, with 1 when the ini file is wrong, and with
        2 when ``build`` raises :class:`UsageError`.
    """
    try:
        return build(given, config_manager.get_config(given.ipython_dir))
    except UsageError as problem:
        parser.error(str(problem))
    except ConfigError as problem:
        print(f"{parser.prog}: {problem}", file=sys.stderr)
        raise SystemExit(1) from None


def file(text: str) -> Path:
    """A file's path, absolute."""
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be a file")
    try:
        return Path(os.path.abspath(Path(text).expanduser()))
    except RuntimeError:
        raise argparse.ArgumentTypeError(f"the home directory in {text!r} is not known") from None


def log_file(text: str) -> Path:
    """A file's path, or ``-``."""
    return Path(text) if text == STANDARD_ERROR else file(text)


def directory(text: str) -> Path:
    """A directory's path, absolute; a file of that name is refused."""
    path = file(text)
    if path.exists() and not path.is_dir():
        raise argparse.ArgumentTypeError(f"{text!r} is not a directory")
    return path


def cluster_id(text: str) -> str:
    """An id that can be part of a file's name."""
    return _checked(check_cluster_id, text)


def port(text: str) -> int:
    """A port to listen on; 0 is any."""
    if not _is_number(text) or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to 65535")
    return int(text)


def port_of_controller(text: str) -> int:
    """A port to connect to."""
    number = port(text)
    if number == 0:
        raise argparse.ArgumentTypeError("'0' is not a port from 1 to 65535")
    return number


def host(text: str) -> str:
    """A host name or address."""
    return _checked(check_host, text)


def on_or_off(text: str) -> bool:
    """Whether something shall be; Python's words for it will do as well."""
    word = text.lower()
    if word not in ("on", "off", "true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return word in ("on", "true")


def address(text: str) -> str:
    """An address to listen on; the empty text stands for all."""
    return "" if text == "" else host(text)


def location(text: str) -> str:
    """``HOST`` or ``HOST:PORT``, or several with commas between them."""
    return _checked(check_location, text)


def whole_number(text: str) -> int:
    """A number of things, or the number of one of them, with nine digits at most."""
    if not _is_number(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def engine_ids(text: str) -> list[int]:
    """Ids of engines, as they are shown: ``3`` or ``0-3,7``."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        last = last if dash else first
        if not (_is_number(first) and _is_number(last)) or int(first) > int(last):
            raise argparse.ArgumentTypeError(f"{text!r} is no list of ids such as 3 or 0-3,7")
        if int(last) - int(first) > MOST_IDS:
            raise argparse.ArgumentTypeError(f"{text!r} are more than {MOST_IDS:,} ids")
        found += range(int(first), int(last) + 1)
    return found


def seconds(text: str) -> float:
    """A time; not below zero, and not for ever."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    # NaN compares false, too.
    if not 0 <= value <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds, 0 or more")
    return value


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except KernelError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) <= 9
