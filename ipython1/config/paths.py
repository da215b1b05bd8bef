"""The location of the user's IPython directory."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ipython1.config.error import ConfigError

IPYTHONDIR_VARIABLE = "IPYTHONDIR"


def find_ipython_dir(
    option: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """Find the IPython directory: ``option``, else ``$IPYTHONDIR``, else ``~/.ipython``.

    Nothing is created.

    :returns: an absolute path.
    :raises ConfigError: if ``~`` cannot be expanded, or the path is impossible.
    """
    environ = os.environ if environ is None else environ
    chosen = os.fspath(option) if option else environ.get(IPYTHONDIR_VARIABLE) or "~/.ipython"
    if "\0" in chosen:
        raise ConfigError(f"{chosen!r} is not a valid path")
    try:
        return Path(os.path.abspath(Path(chosen).expanduser()))
    except RuntimeError as exception:
        raise ConfigError(
            f"cannot find {chosen}: its home directory is unknown; "
            "use --ipython-dir or set $IPYTHONDIR"
        ) from exception
