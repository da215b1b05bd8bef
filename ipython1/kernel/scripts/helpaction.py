"""``ipcluster help``: what the commands and their words do."""

from __future__ import annotations

import argparse

from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.scripts import clusteroptions
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import STARTING, WORDS, word_parser


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("help")
    parser.add_argument("word", nargs="?", metavar="WORD", help="default: all, in short")
    return parser


def run(given: argparse.Namespace) -> int:
    """Print the help of a word.

    :raises ClientError: if there is none.
    """
    word = given.word
    if word in WORDS:
        WORDS[word].load().make_parser().print_help()
    elif word is None or word in clusteroptions.known_kinds() or word in STARTING:
        clusteroptions.make_parser().print_help()
    else:
        known = [*WORDS, *STARTING, *clusteroptions.known_kinds()]
        hint = did_you_mean(word, known) or f"; the words are {', '.join([*STARTING, *WORDS])}"
        raise ClientError(f"there is no word {word!r}{hint}")
    return 0
