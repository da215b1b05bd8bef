"""What ``ipcluster`` is told: the command line, over the ini file, over the defaults."""

from __future__ import annotations

import argparse
import contextlib
import shlex
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

from ipython1.core.texts import did_you_mean
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers import BATCH_KINDS, BUILT_IN, launcher_kinds, unknown_launcher
from ipython1.kernel.launchers.clusterconfig import VARIABLE, ClusterConfig
from ipython1.kernel.launchers.hostlist import parse_hosts
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.adaptoptions import add_adapt_options, check_not_given
from ipython1.kernel.scripts.applicable import check_options
from ipython1.kernel.scripts.clusterconfigs import changed, new_cluster
from ipython1.kernel.scripts.clusterwords import STARTING, WORDS
from ipython1.kernel.scripts.kubernetesoptions import add_kubernetes_options

ANY_NUMBER = 1000
"""Restarts in a minute, which the pauses between them do not allow."""

DESCRIPTION = """\
Start a controller and engines, and end them together.

to start a cluster:
  ipcluster -n 4                    four engines on this host; Ctrl-C ends it
  ipcluster -n 4 --daemonize        the same, in the background
  ipcluster --hosts node1=4,node2=4 on hosts that you can log in to
  ipcluster --adapt 0:8             engines that come and go with the tasks
  ipcluster mpiexec -n 4 --mpi=mpi4py
  ipcluster slurm -n 64 --queue=main --time=1:00:00
                                    also sge, pbs, torque, lsf, htcondor, flux, and kinds
                                    that other packages add
  ipcluster kubernetes -n 8 --image=registry/engine:1 --memory=4Gi

to see what it does:
  ipcluster status                  processes, CPU, memory, queues, progress
  ipcluster top                     the same, live
  ipcluster list                    all clusters of this directory
  ipcluster monitor                 a web page that shows it
  ipcluster logs engine 3 -f        the log of engine 3, and what is added to it

to change it, from any shell of its host:
  ipcluster engines -n 2            two more engines; those that were lost come first
  ipcluster engines slurm -n 4      more engines of another kind
  ipcluster restart                 its controller; engines and clients go on
  ipcluster restart engines         those that have ended
  ipcluster remove 0-3              end these engines
  ipcluster adapt 0:8               engines come and go with the tasks
  ipcluster stop                    end it
  ipcluster stop --force            kill all of it, even if it is stuck

'ipcluster help WORD' tells more.  The options below are for starting.
"""


@dataclass(frozen=True, slots=True)
class ClusterCommand:
    """A command line of ``ipcluster``.

    :ivar action: ``start`` or ``engines``.
    :ivar given: the options of the command line.
    :ivar owner: the descriptor of a connection to the process that this cluster belongs to; -1 for none.
    """

    action: str
    config: ClusterConfig
    daemonize: bool = False
    owner: int = -1
    given: argparse.Namespace = field(default_factory=argparse.Namespace)


class _Words(arguments.OneLineParser):
    """The parser of a command line that another process has sent.

    :raises ClusterError: for wrong usage.
    """

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise ClusterError((message or "").removeprefix(f"{self.prog}: ").strip())


def make_parser(parser_class: type[arguments.OneLineParser] = arguments.OneLineParser) -> Any:
    """The parser."""
    parser = parser_class(
        "ipcluster",
        usage="ipcluster [KIND] [options]\n       ipcluster WORD [options]",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "action",
        nargs="?",
        metavar="KIND | WORD",
        help="how to start engines (default: local), or what to do with a running cluster",
    )
    parser.add_argument(
        "kind",
        nargs="?",
        metavar="KIND",
        help="after start or engines: how to start them",
    )
    add_options(parser)
    return parser


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for starting."""
    parser.add_argument(
        "-n",
        "--num",
        "--n",
        "--engines",
        dest="n",
        type=arguments.whole_number,
        metavar="N",
        help="the number of engines; with 0, they can be added later",
    )
    parser.add_argument(
        "--daemonize",
        action="store_true",
        help="continue in the background once the engines are up",
    )
    _add_engine_options(parser)
    add_adapt_options(parser)
    parser.add_argument("--restore-file", type=arguments.file, help=argparse.SUPPRESS)
    parser.add_argument("--owner-fd", type=int, default=-1, help=argparse.SUPPRESS)
    parser.add_argument("--temporary", action="store_true", help=argparse.SUPPRESS)
    arguments.add_common_options(parser)
    _add_controller_options(parser.add_argument_group("where the controller is reached"))
    _add_kind_options(parser)


def _add_engine_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--restart-engines",
        nargs="?",
        const=ANY_NUMBER,
        type=arguments.whole_number,
        metavar="N",
        help="restart an engine that died, at most N times a minute if N is given",
    )
    parser.add_argument(
        "--restart-stuck",
        type=arguments.seconds,
        metavar="SECONDS",
        help="kill and restart a controller that gives no sign of life for so long; 0 for never",
    )
    parser.add_argument(
        "--start-timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        help="seconds that engines may take to start; 0 for no limit",
    )
    parser.add_argument(
        "--restore",
        type=_source,
        metavar="FILE",
        help="a Python file that each engine runs before it can be used, also after a restart",
    )
    parser.add_argument(
        "--env",
        action="append",
        type=_variable,
        metavar="NAME=VALUE",
        help="an environment variable of the engines",
    )
    parser.add_argument("--cwd", metavar="DIR", help="the working directory of the engines")
    parser.add_argument(
        "--python", "--batch-python", metavar="FILE", help="the Python interpreter of the engines"
    )
    parser.add_argument(
        "--engine-argument",
        action="append",
        metavar="OPTION",
        help="an additional option for ipengine (--engine-argument=--connect-timeout=300)",
    )


def _add_controller_options(group: Any) -> None:
    for side, who, otherwise in arguments.SIDES:
        arguments.add_address_options(group, side, who, otherwise)
    group.add_argument(
        "-r", "--reuse-furls", action="store_true", help="keep the FURLs of the last run"
    )
    arguments.add_journal_option(group)


def _add_kind_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("mpiexec, mpirun")
    group.add_argument(
        "--mpi", metavar="NAME", help="initialise MPI in the engines: mpi4py, pytrilinos, ..."
    )
    group.add_argument(
        "--mpiexec",
        type=_command,
        metavar="COMMAND",
        help="the command, with its options ('mpirun --oversubscribe')",
    )
    _add_ssh_options(parser.add_argument_group("ssh"))
    _add_batch_options(parser.add_argument_group(", ".join(BATCH_KINDS)))
    add_kubernetes_options(parser.add_argument_group("kubernetes"))


def _add_ssh_options(group: Any) -> None:
    group.add_argument(
        "-f",
        "--cluster-file",
        "--clusterfile",
        type=arguments.file,
        metavar="FILE",
        help="the file that lists the hosts, with their engines and the controller",
    )
    group.add_argument(
        "--hosts",
        action="append",
        type=_hosts,
        metavar="HOST[=N],...",
        help="the hosts, with the number of engines of each, instead of a file",
    )
    group.add_argument(
        "--ssh", type=_command, metavar="COMMAND", help="the command, with its options"
    )
    group.add_argument(
        "--tunnel",
        action=argparse.BooleanOptionalAction,
        help="connect the engines to the controller through ssh, where no other port is open",
    )


def _add_batch_options(group: Any) -> None:
    group.add_argument(
        "--batch-file",
        type=arguments.file,
        metavar="FILE",
        help="a job script to use as a template",
    )
    group.add_argument("-q", "--queue", metavar="NAME", help="queue or partition")
    group.add_argument("--account", metavar="NAME")
    group.add_argument("--time", metavar="TIME", help="time limit, in the batch system's format")
    group.add_argument(
        "--batch-option", action="append", metavar="OPTION", help="an additional option for the job"
    )
    group.add_argument(
        "--setup", action="append", metavar="LINE", help="a shell line to run before the engine"
    )
    group.add_argument(
        "--engines-per-job",
        type=_count,
        metavar="N",
        help="start N engines in each member of the job array",
    )
    group.add_argument(
        "--notice",
        type=arguments.seconds,
        metavar="SECONDS",
        help="how long before their time limit engines finish their work and leave; 0 for never",
    )
    group.add_argument(
        "--resubmit",
        action=argparse.BooleanOptionalAction,
        help="whether to submit engines again that the batch system has ended (default: yes)",
    )


def parse_cluster(argv: Sequence[str] | None = None) -> ClusterCommand:
    """The command line, with the ini file behind it.

    :raises ClusterError: if there is no such kind and no such action.
    :raises SystemExit: with 2 after wrong usage, with 1 after a wrong ini file, 0 after ``--help``.
    """
    parser = make_parser()
    given = parser.parse_args(argv)
    _check_words(parser, given)
    command = arguments.read_settings(parser, given, _command_of)
    if command.action == "start":
        check_options(parser, given, command.config)
    if given.kind and given.action not in STARTING:
        parser.error(f"unrecognized arguments: {given.kind}")
    if command.action != "start" and command.daemonize:
        parser.error(f"--daemonize cannot be used with {command.action}")
    return command


def known_kinds() -> list[str]:
    """All kinds of clusters, including those of other packages."""
    return launcher_kinds()


def _check_words(parser: argparse.ArgumentParser, given: argparse.Namespace) -> None:
    word, known = given.action, [*WORDS, *STARTING]
    if word in WORDS:
        parser.error(f"{word!r} must come first: ipcluster {word} ...")
    if word in STARTING:
        word, known = given.kind, []
    if word is None or word in BUILT_IN or word in launcher_kinds():
        return
    raise unknown_launcher(word, did_you_mean(word, [*known, *launcher_kinds()]))


def _command_of(given: argparse.Namespace, settings: dict[str, Any]) -> ClusterCommand:
    action = "engines" if given.action == "engines" else "start"
    config = new_cluster(given, settings, _kind_of(given))
    return ClusterCommand(action, config, given.daemonize, given.owner_fd, given)


def _kind_of(given: argparse.Namespace) -> str | None:
    kind: str | None = given.kind if given.action in STARTING else given.action
    return kind


def check_new_engines(command: ClusterCommand) -> None:
    """Check the options of engines that are to be started for a controller which no ``ipcluster`` has started.

    :raises SystemExit: with 2 after wrong usage.
    """
    check_options(make_parser(), command.given, command.config)


def engines_like(base: ClusterConfig, words: Sequence[str], directory: str) -> ClusterConfig:
    """Return how engines are started that are added to a cluster.

    :param base: what the cluster was started with, which holds where the words say nothing.
    :param words: the command line of ``ipcluster engines``, which another process has sent.
    :param directory: the working directory of that process; relative paths start there.
    :raises ClusterError: after wrong usage, or if there is no such kind.
    """
    parser = make_parser(_Words)
    with contextlib.chdir(directory) if directory else contextlib.nullcontext():
        given = parser.parse_args(words)
        _check_words(parser, given)
        # Those of the cluster are engines that it has already.
        config = changed(replace(base, n=None), given, _kind_of(given))
    check_not_given(parser, given)
    check_options(parser, given, config)
    return config


def _count(text: str) -> int:
    number = arguments.whole_number(text)
    if number == 0:
        raise argparse.ArgumentTypeError("must be at least 1, not 0")
    return number


def _source(text: str) -> str:
    """The content of a file of source text, read as Python reads it."""
    try:
        with tokenize.open(text) as file:
            return file.read()
    except (OSError, SyntaxError, UnicodeDecodeError) as problem:
        why = problem.strerror if isinstance(problem, OSError) else problem
        raise argparse.ArgumentTypeError(f"cannot read {text}: {why}") from None


def _command(text: str) -> tuple[str, ...]:
    try:
        words = tuple(shlex.split(text))
    except ValueError as problem:
        raise argparse.ArgumentTypeError(f"{text!r} is not a command: {problem}") from None
    if not words:
        raise argparse.ArgumentTypeError("the command is empty")
    return words


def _variable(text: str) -> tuple[str, str]:
    """An environment variable with its value."""
    name, equals, value = text.partition("=")
    if not equals or not VARIABLE.fullmatch(name) or "\0" in value:
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value


def _hosts(text: str) -> str:
    """Hosts, as they are given."""
    try:
        parse_hosts([text])
    except ClusterError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
    return text
