"""What ``ipcontroller`` is told.

The command line, over the ini file, over the defaults.  Wrong usage ends the process with exit status 2, a wrong ini
file with 1, each with one line on standard error.  What comes out is a frozen dataclass in which every path is
absolute, so it holds in another directory and in a forked process too.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ipython1.config import ConfigError
from ipython1.kernel.config import config_manager
from ipython1.kernel.controller.config import (
    ControllerConfig,
    Graces,
    InterfaceSpec,
    JournalConfig,
    TaskConfig,
    UpstreamAddress,
)
from ipython1.kernel.host.furl import parse_furl
from ipython1.kernel.host.security import ClusterFiles, furl_of_environment, furl_variable
from ipython1.kernel.scripts import arguments
from ipython1.kernel.scripts.commonoptions import common_settings, files_of, in_security

EXAMPLES = """\
  ipcontroller                      for engines and clients on any host
  ipcontroller --client-ip=127.0.0.1
                                    for this host only
  ipcontroller --upstream=FILE      its engines also serve another controller
  ipcontroller furl list            who can reach it; see: ipcontroller furl --help
  ipcluster status                  it, and its engines
  ipcluster stop                    end it, with its engines
"""


def parse_controller(argv: Sequence[str] | None = None) -> ControllerConfig:
    """The configuration of a controller.

    :param argv: the arguments; ``sys.argv[1:]`` by default.
    :raises SystemExit: with 2 after wrong usage, with 1 after a wrong ini file, 0 after ``--help``.
    """
    parser = make_parser()
    return arguments.read_settings(parser, parser.parse_args(argv), _controller_config)


def make_parser() -> arguments.OneLineParser:
    """The parser."""
    parser = arguments.make_parser(
        "ipcontroller",
        "Start a controller: the process that engines and clients connect to.",
        EXAMPLES,
    )
    parser.words = ("furl",)
    _add_addresses(parser)
    _add_furl_files(parser)
    parser.add_argument(
        "--upstream",
        nargs="?",
        const="",
        metavar="FILE",
        help="be a gateway: the engines also serve another controller, whose FURL file for engines this is (default: "
        "the FURL in $IPYTHON1_ENGINE_FURL)",
    )
    arguments.add_journal_option(parser)
    return parser


def _add_addresses(parser: argparse.ArgumentParser) -> None:
    for side, who, otherwise in arguments.SIDES:
        group = parser.add_argument_group(f"where {who} connect")
        arguments.add_address_options(group, side, who, otherwise)
        group.add_argument(
            f"--{side}-cert-file",
            type=arguments.file,
            metavar="FILE",
            help=f"the key file; created if missing{otherwise}",
        )


def _add_furl_files(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("FURL files")
    group.add_argument(
        "--multiengine-furl-file",
        type=arguments.file,
        metavar="FILE",
        help="for clients of MultiEngine",
    )
    group.add_argument(
        "--task-furl-file", type=arguments.file, metavar="FILE", help="for clients of Task"
    )
    group.add_argument(
        "--monitor-furl-file",
        type=arguments.file,
        metavar="FILE",
        help="for those who only look",
    )
    group.add_argument(
        "--engine-furl-file", type=arguments.file, metavar="FILE", help="for engines"
    )
    group.add_argument(
        "-r",
        "--reuse-furls",
        action="store_true",
        default=None,
        help="keep the FURLs of the last run, so that copies of the files remain valid",
    )


def _controller_config(given: argparse.Namespace, settings: dict[str, Any]) -> ControllerConfig:
    section = settings["controller"]
    common = common_settings(given, section)
    files = files_of(common)

    def chosen(name: str) -> Any:
        value = getattr(given, name)
        return section[name] if value is None else value

    given_furls = {
        "multiengine": given.multiengine_furl_file,
        "task": given.task_furl_file,
        "monitor": given.monitor_furl_file,
    }
    client_cert_file = in_security(chosen("client_cert_file"), files) or files.certificate
    config = ControllerConfig(
        **common,
        log_days=section["log_days"],
        client_ip=chosen("client_ip"),
        client_port=chosen("client_port"),
        client_location=chosen("client_location"),
        client_cert_file=client_cert_file,
        engine_ip=chosen("engine_ip") or chosen("client_ip"),
        engine_port=chosen("engine_port"),
        engine_location=chosen("engine_location") or chosen("client_location"),
        engine_cert_file=in_security(chosen("engine_cert_file"), files) or client_cert_file,
        engine_furl_file=given.engine_furl_file or files.engine_furl,
        reuse_furls=chosen("reuse_furls"),
        interfaces=_interfaces(section["controller_interfaces"], given_furls, files),
        task=TaskConfig(**settings["task"]),
        max_message_size=section["max_message_size"],
        spool_size=section["spool_size"],
        journal=_journal_config(given, settings["journal"], files),
        audit_log=section["audit_log"],
        monitor_failures=settings["monitor"]["failures"],
        graces=Graces(section["engine_grace"], section["restart_grace"], section["client_grace"]),
        upstream=_upstream(given.upstream, section["upstream"], files),
    )
    _check_files_differ(config)
    same_place = config.engine_ip == config.client_ip and config.engine_port == config.client_port
    if same_place and config.engine_port and not config.one_port:
        raise arguments.UsageError(
            "two key files cannot share one port; choose another --engine-port"
        )
    return config


def _upstream(given: str | None, set_up: str, files: ClusterFiles) -> UpstreamAddress | None:
    """Where the controller is that this one is a gateway to."""
    if given is None and not set_up:
        return None
    text = set_up if given is None else given
    if not text:
        name = furl_variable("engine")
        furl = furl_of_environment("engine")
        if furl is None:
            raise arguments.UsageError(
                f"argument --upstream: name the other controller's FURL file for engines, or put that FURL into ${name}"
            )
        os.environ.pop(name, None)
        return UpstreamAddress(furl, None, name)
    if text.startswith("pb://"):
        return UpstreamAddress(parse_furl(text), None, "--upstream")
    path = arguments.file(text) if given is not None else in_security(text, files)
    return UpstreamAddress(None, path, str(path))


def _journal_config(
    given: argparse.Namespace, section: dict[str, Any], files: ClusterFiles
) -> JournalConfig:
    return JournalConfig(
        enabled=section["enabled"] if given.journal is None else given.journal,
        directory=files.journal(section["directory"]),
        sync=section["journal_sync"],
        keep_age=section["keep_age"],
        keep_size=section["keep_size"],
    )


def _interfaces(
    section: dict[str, Any], given_furls: dict[str, Path | None], files: ClusterFiles
) -> tuple[InterfaceSpec, ...]:
    found = []
    for name, values in section.items():
        if not values["enabled"]:
            continue
        for key in ("controller_interface", "fc_interface"):
            if not values[key]:
                raise ConfigError(
                    f"{config_manager.path(files.dirs.ipython_dir)}: [controller] [[controller_interfaces]] "
                    f"[[[{name}]]] {key} is missing: a dotted name such as package.module.ClassName is needed"
                )
        furl_file = given_furls.get(name) or in_security(
            values["furl_file"] or f"ipcontroller-{name}.furl", files
        )
        assert furl_file is not None
        found.append(
            InterfaceSpec(name, values["controller_interface"], values["fc_interface"], furl_file)
        )
    return tuple(found)


def _check_files_differ(config: ControllerConfig) -> None:
    owners: dict[Path, str] = {}
    for name, path in (
        ("engine", config.engine_furl_file),
        *((spec.name, spec.furl_file) for spec in config.interfaces),
    ):
        if path in owners:
            raise arguments.UsageError(
                f"the FURL file {path} would be used for both {owners[path]} and {name}; choose different names"
            )
        owners[path] = name
