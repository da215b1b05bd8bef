"""What ``ipcluster`` is told: the command line, over the ini file, over the defaults."""

from __future__ import annotations

import argparse
import shlex
import tokenize
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ipython1.core.texts import did_you_mean
from ipython1.kernel.launchers import BUILT_IN, launcher_kinds, unknown_launcher
from ipython1.kernel.launchers.clusterconfig import (
    BatchOptions,
    ClusterConfig,
    ControllerOptions,
    MpiOptions,
    SshOptions,
)
from ipython1.kernel.launchers.places import all_here, listen_here
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.applicable import check_options
from ipython1.kernel.scripts.clusterwords import STARTING, WORDS
from ipython1.kernel.scripts.kubernetesoptions import add_kubernetes_options, kubernetes_options

ANY_NUMBER = 1000
"""Restarts in a minute, which the pauses between them do not allow."""

DESCRIPTION = """\
Start a controller and engines, and end them together.

to start a cluster:
  ipcluster -n 4                    four engines on this host; Ctrl-C ends it
  ipcluster -n 4 --daemonize        the same, in the background
  ipcluster ssh -f hosts.py         on hosts that you can log in to
  ipcluster mpiexec -n 4 --mpi=mpi4py
  ipcluster slurm -n 64 --queue=main --time=1:00:00
                                    also sge, pbs, lsf, and kinds that other packages add
  ipcluster kubernetes -n 8 --image=registry/engine:1 --memory=4Gi

to see what it does:
  ipcluster status                  processes, CPU, memory, queues, progress
  ipcluster top                     the same, live
  ipcluster list                    all clusters of this directory
  ipcluster monitor                 a web page that shows it
  ipcluster logs engine 3 -f        the log of engine 3, and what is added to it

to change it, from any shell of its host:
  ipcluster engines -n 2            two more engines; those that were lost come first
  ipcluster engines ssh -f hosts.py more engines of another kind
  ipcluster restart                 its controller; engines and clients go on
  ipcluster restart engines         those that have ended
  ipcluster remove 0-3              end these engines
  ipcluster stop                    end it
  ipcluster stop --force            kill all of it, even if it is stuck

'ipcluster help WORD' tells more.  The options below are for starting.
"""


@dataclass(frozen=True, slots=True)
class ClusterCommand:
    """A command line of ``ipcluster``.

    :ivar action: ``start`` or ``engines``.
    :ivar kind_given: whether the command line says how engines are started.
    :ivar owner: the descriptor of a connection to the process that this cluster belongs to; -1 for none.
    """

    action: str
    config: ClusterConfig
    daemonize: bool = False
    owner: int = -1
    kind_given: bool = False


def make_parser() -> argparse.ArgumentParser:
    """The parser."""
    parser = arguments.OneLineParser(
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
        type=_count,
        metavar="N",
        help="the number of engines",
    )
    parser.add_argument(
        "--daemonize",
        action="store_true",
        help="continue in the background once the engines are up",
    )
    _add_engine_options(parser)
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
    group = parser.add_argument_group("ssh")
    group.add_argument(
        "-f",
        "--cluster-file",
        "--clusterfile",
        type=arguments.file,
        metavar="FILE",
        help="the file that lists the hosts, with their engines and the controller",
    )
    group.add_argument(
        "--ssh", type=_command, metavar="COMMAND", help="the command, with its options"
    )
    group = parser.add_argument_group("slurm, sge, pbs, lsf")
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
    group.add_argument("--batch-python", metavar="FILE", help="the Python interpreter on the nodes")
    add_kubernetes_options(parser.add_argument_group("kubernetes"))


def parse_cluster(argv: Sequence[str] | None = None) -> ClusterCommand:
    """The command line, with the ini file behind it.

    :raises ClusterError: if there is no such kind and no such action.
    :raises SystemExit: with 2 after wrong usage, with 1 after a wrong ini file, 0 after ``--help``.
    """
    parser = make_parser()
    given = parser.parse_args(argv)
    _check_words(parser, given)
    command = arguments.read_settings(parser, given, _command_of)
    config = command.config
    check_options(
        parser, given, config.kind, command.action == "engines" and not command.kind_given
    )
    if config.kind == "ssh" and not config.ssh.cluster_file:
        parser.error("ssh needs a file that lists the hosts: give -f FILE")
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
    kind = given.kind if given.action in STARTING else given.action
    config = cluster_config(given, settings, kind)
    return ClusterCommand(
        action,
        config,
        given.daemonize,
        given.owner_fd,
        kind_given=bool(kind or given.cluster_file or given.mpi),
    )


def cluster_config(
    given: argparse.Namespace, settings: dict[str, Any], kind: str | None
) -> ClusterConfig:
    """The cluster that the command line and the ini file describe.

    :param kind: how engines are started; None for what the options hint at, else the ini file's.
    """
    section = settings["cluster"]
    if kind is None:
        kind = section["kind"]
        if given.cluster_file:
            kind = "ssh"
        elif given.mpi:
            kind = "mpiexec"
    config = ClusterConfig(
        kind=kind,
        n=_chosen(given.n, section["n"]),
        ipython_dir=str(given.ipython_dir or ""),
        cluster_id=given.cluster_id,
        controller=_controller_options(given),
        mpi=_mpi_options(given, section["mpi"], settings["mpi"], kind),
        ssh=SshOptions(
            _chosen(given.ssh, tuple(section["ssh"]["command"])),
            str(_chosen(given.cluster_file, section["ssh"]["cluster_file"])),
        ),
        batch=_batch_options(given, section["batch"]),
        kubernetes=kubernetes_options(given, section["kubernetes"]),
        restart_controller=section["restart_controller"],
        restart_stuck=_chosen(given.restart_stuck, section["restart_stuck"]),
        reconnect_timeout=settings["engine"]["reconnect_timeout"],
        restart_engines=_chosen(given.restart_engines, section["restart_engines"]),
        start_timeout=_chosen(given.start_timeout, section["start_timeout"]),
        stop_timeout=section["stop_timeout"],
        engine_arguments=(*section["engine_arguments"], *(given.engine_argument or ())),
        restore="" if given.restore_file else _chosen(given.restore, section["restore"]),
        restore_file=str(given.restore_file or ""),
        log_file=str(given.logfile or ""),
        log_level=given.log_level or "",
        log_size=section["log_size"],
        owned=given.owner_fd >= 0,
        temporary=given.temporary,
    )
    if all_here(config):
        controller = listen_here(config.controller, settings["controller"])
        config = replace(config, controller=controller)
    return config


def _chosen(value: Any, default: Any) -> Any:
    return default if value is None else value


def _controller_options(given: argparse.Namespace) -> ControllerOptions:
    names = [each.name for each in fields(ControllerOptions)]
    return ControllerOptions(**{name: getattr(given, name) for name in names})


def _mpi_options(
    given: argparse.Namespace, section: dict[str, Any], set_ups: dict[str, str], kind: str
) -> MpiOptions:
    command = _chosen(given.mpiexec, tuple(section["command"]))
    if given.mpiexec is None and kind == "mpirun" and command == ("mpiexec",):
        command = ("mpirun",)
    return MpiOptions(command, _chosen(given.mpi, section["use"]), tuple(set_ups.items()))


def _batch_options(given: argparse.Namespace, section: dict[str, Any]) -> BatchOptions:
    return BatchOptions(
        template=str(_chosen(given.batch_file, section["template"])),
        queue=_chosen(given.queue, section["queue"]),
        account=_chosen(given.account, section["account"]),
        time=_chosen(given.time, section["time"]),
        options=(*section["options"], *(given.batch_option or ())),
        setup=(*section["setup"], *(given.setup or ())),
        python=_chosen(given.batch_python, section["python"]),
    )


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
