"""What ``ipengine`` is told.

The command line, over the ini file, over the defaults.  Wrong usage ends the process with exit status 2, a wrong ini
file with 1, each with one line on standard error.  What comes out is a frozen dataclass in which every path is
absolute, so it holds in another directory and in a forked process too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from typing import Any

from ipython1.config import ConfigError
from ipython1.core.config import config_manager as core_config_manager
from ipython1.kernel.config import config_manager
from ipython1.kernel.engine.config import EngineConfig
from ipython1.kernel.host.security import (
    furl_file_of_environment,
    furl_of_environment,
    furl_variable,
)
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.commonoptions import common_settings, files_of, in_security

EXAMPLES = """\
  ipengine                          for the controller of this directory
  ipengine --furl-file=FILE         for a controller whose FURL file was copied
  mpiexec -n 4 ipengine --mpi=mpi4py
  ipcluster engines -n 4            several, which end together
"""


def parse_engine(argv: Sequence[str] | None = None) -> EngineConfig:
    """The configuration of an engine.

    :param argv: the arguments; ``sys.argv[1:]`` by default.
    :raises SystemExit: with 2 after wrong usage, with 1 after a wrong ini file, 0 after ``--help``.
    """
    parser = make_parser()
    return arguments.read_settings(parser, parser.parse_args(argv), _engine_config)


def make_parser() -> arguments.OneLineParser:
    """The parser."""
    parser = arguments.make_parser(
        "ipengine",
        "Start an engine: a process that runs Python code for a controller.",
        EXAMPLES,
    )
    parser.add_argument(
        "--furl-file",
        type=arguments.file,
        metavar="FILE",
        help="the controller's FURL file for engines (default: the FURL in $IPYTHON1_ENGINE_FURL, the file that "
        "$IPYTHON1_ENGINE_FURL_FILE names, or the one in the directory)",
    )
    parser.add_argument(
        "--controller-ip",
        type=arguments.host,
        metavar="HOST",
        help="connect to this host instead of the one in the FURL",
    )
    parser.add_argument(
        "--controller-port",
        type=arguments.port_of_controller,
        metavar="PORT",
        help="connect to this port instead of the one in the FURL",
    )
    parser.add_argument(
        "--mpi",
        metavar="NAME",
        help="set up MPI first: mpi4py, pytrilinos, or a name from the [mpi] section of the ini file",
    )
    parser.add_argument(
        "--engine-id",
        type=arguments.whole_number,
        metavar="N",
        help="request this id; the default is any free one",
    )
    parser.add_argument(
        "--ids-of-ranks", type=arguments.engine_ids, default=[], help=argparse.SUPPRESS
    )
    parser.add_argument("--restore-file", type=arguments.file, help=argparse.SUPPRESS)
    parser.add_argument(
        "--connect-timeout",
        type=arguments.seconds,
        metavar="SECONDS",
        help="seconds to wait for the FURL file and the controller",
    )
    return parser


def _engine_config(given: argparse.Namespace, settings: dict[str, Any]) -> EngineConfig:
    section = settings["engine"]
    common = common_settings(given, section)
    files = files_of(common)
    mpi = section["mpi"] if given.mpi is None else given.mpi
    if mpi and mpi not in settings["mpi"]:
        message = f"there is no MPI set-up {mpi!r}; known are {', '.join(sorted(settings['mpi']))}"
        if given.mpi is not None:
            raise arguments.UsageError(f"argument --mpi: {message}")
        raise ConfigError(
            f"{config_manager.path(files.dirs.ipython_dir)}: [engine] mpi = {mpi}: {message}"
        )
    furl = None
    named = given.furl_file
    if given.furl_file is given.ipython_dir is None and not given.cluster_id:
        # What was named on the command line is meant; so are the engines of a cluster, which name its directory.
        furl = furl_of_environment("engine")
        named = furl_file_of_environment("engine")
        # User code, its output and its processes have no need of it.
        os.environ.pop(furl_variable("engine"), None)
    timeout = section["connect_timeout"] if given.connect_timeout is None else given.connect_timeout
    return EngineConfig(
        **common,
        furl_file=named or in_security(section["furl_file"], files) or files.engine_furl,
        furl_file_named=bool(named),
        furl=furl,
        controller_ip=given.controller_ip,
        controller_port=given.controller_port,
        engine_id=given.engine_id,
        ids_of_ranks=tuple(given.ids_of_ranks),
        mpi=mpi,
        mpi_code=settings["mpi"][mpi] if mpi else "",
        restore_file=given.restore_file,
        connect_timeout=timeout,
        reconnect_timeout=section["reconnect_timeout"],
        **core_config_manager.get_config(common["ipython_dir"])["interpreter"],
    )
