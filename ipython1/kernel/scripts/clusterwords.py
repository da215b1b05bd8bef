"""The words of ``ipcluster`` that do something with clusters that run: which there are, and what does them.

This module imports next to nothing, because the words are looked for before a cluster is started.  Each word
has a module with a ``make_parser()`` and a ``run(given)``, which gives the exit status.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from ipython1.kernel.scripts.output import writing

if TYPE_CHECKING:
    import argparse

    from ipython1.kernel.host.security import ClusterFiles
    from ipython1.kernel.scripts.arguments import OneLineParser

_SCRIPTS: Final = "ipython1.kernel.scripts"

COMPLETION: Final = "_ARGCOMPLETE"
"""The variable that a shell sets when it asks for completions."""

STARTING: Final = ("start", "engines")
"""Words that start processes; they have the options of a cluster."""


class Word(NamedTuple):
    """A word.

    :ivar help: what it does, in one line.
    :ivar module: the name of its module in this package.
    """

    help: str
    module: str

    def load(self) -> Any:
        """Import its module."""
        import importlib

        return importlib.import_module(f"{_SCRIPTS}.{self.module}")


WORDS: Final = {
    "status": Word(
        "show a cluster: its processes, what they use, and what they do", "statusaction"
    ),
    "list": Word("list the clusters of this directory", "listaction"),
    "top": Word("watch engines and tasks, live in the terminal", "topaction"),
    "monitor": Word("serve a web page that shows what a cluster does", "monitoraction"),
    "logs": Word("show the log of the controller, an engine or ipcluster", "logsaction"),
    "restart": Word("restart the controller, or engines", "restartaction"),
    "remove": Word("end some of the engines", "removeaction"),
    "adapt": Word("have engines come and go with the tasks", "adaptaction"),
    "stop": Word("end a cluster", "stopaction"),
    "help": Word("explain a word", "helpaction"),
}

_WITH_VALUE: Final = ("--ipython-dir", "--cluster-id", "-l", "--logfile", "--log-level")
"""Options that may stand before the word, and have a value."""


def find_word(argv: Sequence[str]) -> tuple[str, list[str]]:
    """Find the word in a command line.

    :returns: the word, and the other arguments; an empty word if the command line starts something.
    """
    skip = False
    for at, argument in enumerate(argv):
        if skip:
            skip = False
        elif argument in _WITH_VALUE:
            skip = True
        elif not argument.startswith("-"):
            if argument not in WORDS:
                return "", list(argv)
            return argument, [*argv[:at], *argv[at + 1 :]]
    return "", list(argv)


def run_word(word: str, argv: Sequence[str]) -> int:
    """Do what a word says; return the exit status.

    :raises KernelError: why it cannot be done.
    :raises SystemExit: with 2 after wrong usage, 0 after ``--help``.
    """
    module = WORDS[word].load()
    given = module.make_parser().parse_args(argv)
    return writing("ipcluster", lambda: int(module.run(given)))


def word_parser(word: str, text: str = "") -> OneLineParser:
    """Return a parser with the options that all words have.

    :param text: what its help says besides what the word does, in paragraphs; ``examples:`` begins the examples.
    """
    import argparse
    import textwrap

    from ipython1.kernel.scripts import arguments

    help = WORDS[word].help
    more, begin, examples = text.partition("examples:\n")
    paragraphs = f"{help[:1].upper()}{help[1:]}. {more}".split("\n\n")
    description = "\n\n".join(textwrap.fill(" ".join(each.split()), 79) for each in paragraphs)
    parser = arguments.OneLineParser(
        f"ipcluster {word}",
        description=description.strip(),
        epilog=f"{begin}{examples}" if examples else None,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--cluster-id",
        type=arguments.cluster_id,
        default="",
        metavar="ID",
        help="the cluster, if it was given an id",
    )
    parser.add_argument(
        "--ipython-dir",
        type=arguments.directory,
        metavar="DIR",
        help="where its files are (default: $IPYTHONDIR or ~/.ipython)",
    )
    for names in (("-l", "--logfile"), ("--log-level",)):
        # All commands have these; there is nothing to log here.
        parser.add_argument(*names, help=argparse.SUPPRESS)
    return parser


def files_of(given: argparse.Namespace) -> ClusterFiles:
    """Return the files of the cluster that a word is about."""
    from ipython1.kernel.host.security import ClusterFiles, IPythonDirs

    return ClusterFiles(IPythonDirs.resolve(given.ipython_dir), given.cluster_id)


def add_finish(parser: argparse.ArgumentParser) -> None:
    """Add the options that limit how long engines have to finish what they run."""
    from ipython1.kernel.clusters.arguments import FINISH
    from ipython1.kernel.scripts import arguments

    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        "--finish",
        type=arguments.seconds,
        default=FINISH,
        metavar="SECONDS",
        help=f"how long engines have to finish what they run (default {FINISH:g} s)",
    )
    group.add_argument(
        "--now",
        dest="finish",
        action="store_const",
        const=0.0,
        help="end them at once, whatever they run",
    )
