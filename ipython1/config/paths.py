"""Where a user's IPython directory is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from ipython1.config.error import ConfigError

IPYTHONDIR_VARIABLE = "IPYTHONDIR"


def find_ipython_dir(
    option: str | os.PathLike[str] | None = None, environ: Mapping[str, str] | None = None
) -> Path:
    """The option when it is given, else ``$IPYTHONDIR``, else ``~/.ipython``; nothing is created.

    :returns: an absolute path.
    :raises ConfigError: when there is no home directory to start from.
    """
    environ = os.environ if environ is None else environ
    chosen = os.fspath(option) if option else environ.get(IPYTHONDIR_VARIABLE) or "~/.ipython"
    if "\0" in chosen:
        raise ConfigError(f"{chosen!r} cannot be a path")
    try:
        return Path(os.path.abspath(Path(chosen).expanduser()))
    except RuntimeError as exception:
        raise ConfigError(
            f"{chosen} cannot be found, as that home directory is not known; "
            "give --ipython-dir or set $IPYTHONDIR"
        ) from exception
