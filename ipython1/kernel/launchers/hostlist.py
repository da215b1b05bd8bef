"""Hosts that are named one by one, without a file: ``node1,node2=4``."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ipython1.checks import is_int
from ipython1.kernel.basics.error import ClusterError

MOST: int = 100_000
"""Engines that a host may have."""


def parse_hosts(words: Iterable[str]) -> tuple[tuple[str, int], ...]:
    """Return the hosts with the number of engines, 1 unless it is given.

    :param words: each ``HOST`` or ``HOST=N``, or several of these with commas between them.
    :raises ClusterError: if one of them is not a host, or named twice.
    """
    found: dict[str, int] = {}
    for word in (part.strip() for text in words for part in text.split(",")):
        name, equals, number = (each.strip() for each in word.partition("="))
        if not name or name.startswith("-") or any(c.isspace() for c in name):
            raise ClusterError(f"{word!r} is not a host: it must be HOST or HOST=N")
        if equals and not (number.isascii() and number.isdecimal() and int(number) <= MOST):
            raise ClusterError(f"{word!r}: the number of engines must be from 0 to {MOST:,}")
        if name in found:
            raise ClusterError(f"the host {name!r} is named twice")
        found[name] = int(number) if equals else 1
    return tuple(found.items())


def host_words(hosts: Any) -> list[str]:
    """Return hosts that a program gives as the words of a command line.

    :param hosts: a name, or several; or a mapping of names to numbers of engines.
    :raises TypeError: if it is something else.
    """
    if isinstance(hosts, str):
        return [hosts]
    if isinstance(hosts, Mapping):
        wrong = [n for n in hosts.values() if not is_int(n)]
        if wrong:
            raise TypeError(
                f"hosts: the number of engines must be a whole number, not {wrong[0]!r}"
            )
        hosts = [f"{host}={n}" for host, n in hosts.items()]
    if not isinstance(hosts, Iterable) or isinstance(hosts, bytes):
        raise TypeError(
            f"hosts must be a host, a list of hosts, or a dict of hosts and numbers, not {hosts!r}"
        )
    words = list(hosts)
    if not words or not all(isinstance(each, str) for each in words):
        raise TypeError(f"hosts must name at least one host, and each by a str, not {words!r}")
    return words
