"""The job script of a batch system: the built-in one, or the user's with the command for the engines filled in."""

from __future__ import annotations

import locale
import re
import shlex
from collections.abc import Sequence

from ipython1.core.texts import compress_ids
from ipython1.daemon.pythoncommand import python_command
from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.batchsystem import BatchSystem
from ipython1.kernel.launchers.clusterconfig import ClusterConfig
from ipython1.kernel.launchers.interfaces import Unit
from ipython1.kernel.launchers.programs import ENGINE_MODULE
from ipython1.regularfiles import read_regular_text

MEMBER_MODULE = "ipython1.daemon.jobmember"

DEFAULT_SCRIPT = """\
#!/bin/sh
{setup}
exec {engine}
"""

PLACEHOLDERS = ("engine", "setup", "n", "job", "output", "queue", "account", "time")


def render_script(template: str, values: dict[str, str], source: str) -> str:
    """Fill in a template of a job script: replace ``{engine}`` and the other placeholders, and keep everything else.

    :param source: where the template comes from, for messages.
    :raises ClusterError: if it does not start an engine.
    """
    if "{engine}" not in template:
        raise ClusterError(
            f"the job script {source} does not start an engine; add a line with {{engine}}"
        )
    pattern = "|".join(PLACEHOLDERS)
    return re.sub(rf"(?<!\$)\{{({pattern})\}}", lambda match: values[match.group(1)], template)


def read_template(config: ClusterConfig) -> str:
    """Return the user's job script, or the built-in one.

    :raises ClusterError: if it cannot be read, does not start an engine, or has no place for what engines need.
    """
    path = config.batch.template
    if not path:
        return DEFAULT_SCRIPT
    try:
        text = read_regular_text(path, locale.getencoding())
    except OSError as problem:
        raise ClusterError(f"cannot read the job script {path}: {problem.strerror}") from None
    render_script(text, dict.fromkeys(PLACEHOLDERS, ""), path)
    if surroundings(config) and "{setup}" not in text:
        raise ClusterError(
            f"the job script {path} has no place for the environment and the working directory of the engines; "
            "add a line with {setup} before the one with {engine}"
        )
    return text


def surroundings(config: ClusterConfig) -> list[str]:
    """Return the lines of a job script that set an engine's environment variables and its working directory."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in config.env]
    if config.cwd:
        lines.append(f"cd -- {shlex.quote(config.cwd)} || exit 1")
    return lines


def job_script(
    system: BatchSystem, config: ClusterConfig, name: str, units: Sequence[Unit], output: str
) -> str:
    """Return the script of a job array.

    :param name: the job's name.
    :param units: what its members start, in the order of their indices.
    :param output: the pattern for output files.
    :raises ClusterError: if the user's script cannot be read.
    """
    batch = config.batch
    values = {
        "engine": member_command(system, config, units),
        "setup": "\n".join([*system.preamble, *batch.setup, *surroundings(config)]),
        "n": str(len(units)),
        "job": name,
        "output": output,
        "queue": batch.queue,
        "account": batch.account,
        "time": batch.time,
    }
    return render_script(read_template(config), values, batch.template or "of this package")


def member_command(system: BatchSystem, config: ClusterConfig, units: Sequence[Unit]) -> str:
    """Return the shell command that starts the engines of a member of a job array."""
    python, notice = config.batch.python or config.python, config.batch.notice
    arguments = [*config.common_arguments(), *config.engine_options()]
    engine = python_command(ENGINE_MODULE, ["ipengine", *arguments], python=python)
    options = [
        *_ids_options(units),
        f"--first={system.first}",
        *(f"--notice={name}" for name in system.notices if notice),
    ]
    member = python_command(MEMBER_MODULE, ["ipengine-job", *options], python=python)
    return f'{shlex.join(member)} --member="{system.index}" -- {shlex.join(engine)}'


def _ids_options(units: Sequence[Unit]) -> list[str]:
    if any(unit.count > 1 for unit in units):
        return [f"--groups={'/'.join(compress_ids(unit.ids) for unit in units)}"]
    ids = [unit.ids[0] for unit in units]
    in_order = ids == sorted(ids)
    return [f"--ids={compress_ids(ids) if in_order else ','.join(map(str, ids))}"]
