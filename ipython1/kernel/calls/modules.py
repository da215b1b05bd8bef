"""The client's side of sending modules and files: ``sync_imports``, ``push_module`` and ``push_files``."""

from __future__ import annotations

import importlib
import importlib.machinery
import io
import os
import sys
import types
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol

from ipython1.core.texts import compress_ids
from ipython1.kernel.calls import requests
from ipython1.kernel.calls.calls import Request, Targets
from ipython1.kernel.calls.importstatements import ImportStatement, imports_of_block
from ipython1.kernel.objects.enginemodules import (
    digest_of,
    files_of_module,
    install_module,
    write_files,
)
from ipython1.regularfiles import check_regular, read_regular

# -- sync_imports


class _Client(Protocol):
    """The client, as :class:`SyncImports` needs it."""

    _connection: Any

    def _run(self, request: Request, targets: Targets, block: bool | None) -> Any: ...


class SyncImports:
    """A ``with`` block of import statements that run here and on engines.

    The statements run here first.  If they succeed, they run in the user's namespace on the engines.

    :ivar statements: the imports.
    :raises ClientError: on entry, if the block contains anything but imports.
    :raises CompositeError: on exit, if an import failed on an engine.
    """

    def __init__(self, client: Any, targets: Sequence[int] | None, quiet: bool = False) -> None:
        self._client: _Client = client
        self._targets = targets
        self._quiet = quiet
        self.statements: list[ImportStatement] = []

    def __enter__(self) -> SyncImports:
        self.statements = imports_of_block(sys._getframe(1))
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is not None:
            return
        lines = [str(statement) for statement in self.statements]
        if not self._quiet:
            ids = self._client._connection.end.ids if self._targets is None else self._targets
            for line in lines:
                print(f"{line}  # also on engines {compress_ids(ids)}")
        self._client._run(sync_imports("\n".join(lines)), self._targets or "all", True)


def _run_there(source: str) -> None:
    __tracebackhide__ = True
    exec(compile(source, "<sync_imports>", "exec"), globals())


def sync_imports(source: str) -> Request:
    """Create a request to run import statements in the namespace of each engine."""
    # A function of __main__ runs in the namespace of the engine that receives it.
    run = types.FunctionType(_run_there.__code__, {"__name__": "__main__"}, "sync_imports")
    run.__module__ = "__main__"
    return requests.apply("sync_imports", run, (source,), {})


# -- modules


def push_module(module: Any) -> Request:
    """Create a request to send the source of a module or package.

    :param module: a module, its dotted name, or the path of its file or directory; for a module in a package, the
        whole package is sent.
    :raises TypeError: if it is or contains a C extension.
    :raises ValueError: if it has no source, or is part of Python.
    :raises ModuleNotFoundError: if it does not exist.
    :raises OSError: if one of its files cannot be read or is not a regular file.
    """
    name, paths = locate_module(module)
    _refuse_own(name)
    sources: list[tuple[str, Path]] = []
    compiled: list[str] = []
    for at, path in files_of_module(paths):
        if _is_compiled(path.name):
            compiled.append(at)
        else:
            check_regular(path)
            sources.append((at, path))
    if compiled:
        raise TypeError(
            f"{name!r} contains compiled modules ({', '.join(compiled[:3])}"
            f"{', ...' if len(compiled) > 3 else ''}), but only source can be sent; install it on the engines' hosts"
        )
    if not sources:
        raise ValueError(f"there are no files in {paths[0]}")
    files = {at: read_regular(path) for at, path in sources}
    archive = _zipped(files)
    return requests.apply("push_module", install_module, (name, digest_of(files), archive), {})


def locate_module(module: Any) -> tuple[str, list[Path]]:
    """Return the name of a top-level module or package, and its file or directories.

    :raises TypeError, ValueError, ModuleNotFoundError: as for :func:`push_module`.
    """
    if isinstance(module, types.ModuleType):
        return _locate_loaded(module)
    if not isinstance(module, (str, os.PathLike)):
        raise TypeError(
            f"module must be a module, its name or its path, not {type(module).__name__}"
        )
    if module == "":
        # As a path, this would be the working directory.
        raise ValueError("the name of a module must not be empty")
    path = Path(module).expanduser()
    dotted = isinstance(module, str) and all(part.isidentifier() for part in module.split("."))
    if path.exists() and not (dotted and path.is_dir() and not _has_source(path)):
        return _locate_path(path.resolve())
    if not dotted:
        raise ModuleNotFoundError(f"there is no module or package at {path}")
    try:
        return _locate_loaded(importlib.import_module(str(module)))
    except ModuleNotFoundError as problem:
        if problem.name is None or not str(module).startswith(problem.name):
            raise
        raise ModuleNotFoundError(
            f"no module, file or directory is named {str(module)!r}", name=problem.name
        ) from None


def _locate_loaded(module: types.ModuleType) -> tuple[str, list[Path]]:
    name = module.__name__.partition(".")[0]
    if name == "__main__":
        raise ValueError(
            "__main__ need not be pushed: functions and classes defined in it are sent with the calls that use them"
        )
    _refuse_own(name)
    top = module if module.__name__ == name else importlib.import_module(name)
    folders = getattr(top, "__path__", None)
    if folders is not None:
        paths = [Path(folder) for folder in folders]
    else:
        file = getattr(top, "__file__", None)
        if file is None:
            raise ValueError(f"module {name!r} has no file, so it has no source to send")
        paths = [Path(file)]
        if _is_compiled(paths[0].name):
            raise TypeError(
                f"{name!r} is a C extension ({paths[0].name}), but only source can be sent; "
                "install it on the engines' hosts"
            )
    for path in paths:
        if not path.exists():
            raise ValueError(f"the source of {name!r} cannot be read: {path} does not exist")
    return name, paths


def _locate_path(path: Path) -> tuple[str, list[Path]]:
    if path.name == "__init__.py":
        path = path.parent
    if path.is_dir():
        name = path.name
        if not _has_source(path):
            raise ValueError(f"{path} is not a package: it contains no .py files")
        if (path.parent / "__init__.py").exists():
            # A subpackage cannot be imported without its package.
            return _locate_path(path.parent)
    else:
        name = path.stem
        if _is_compiled(path.name):
            raise TypeError(
                f"{path} is a C extension, but only source can be sent; install it on the engines' hosts"
            )
        if path.suffix != ".py":
            raise ValueError(f"{path} is not Python source; use push_files for other files")
        if (path.parent / "__init__.py").exists():
            return _locate_path(path.parent)
    if not name.isidentifier():
        raise ValueError(f"{path} cannot be imported: {name!r} is not a valid module name")
    return name, [path]


def _has_source(folder: Path) -> bool:
    return any(folder.rglob("*.py"))


def _is_compiled(name: str) -> bool:
    return name.endswith((*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd", ".dll", ".dylib"))


def _refuse_own(name: str) -> None:
    if name in sys.builtin_module_names:
        raise ValueError(f"{name!r} is built into Python, so the engines have it")
    if name in sys.stdlib_module_names:
        raise ValueError(
            f"{name!r} is the name of a module of Python's standard library, which the engines have; "
            "pushing a module of this name would hide it"
        )
    if name == "ipython1":
        raise ValueError("ipython1 cannot be pushed: the engines run it")


def _zipped(files: dict[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=3) as packed:
        for name, data in files.items():
            packed.writestr(name, data)
    return archive.getvalue()


# -- files


def push_files(files: Any, directory: Any = None) -> Request:
    """Create a request to send files.

    :param files: a path or several; directories are sent with their contents.
    :param directory: the destination on the engines; None for their working directories.
    :raises OSError: if a file cannot be read or is not a regular file, such as a named pipe or a device.
    :raises ValueError: if there are no files, or two would have the same path on the engines.
    """
    if isinstance(files, (str, os.PathLike)):
        files = [files]
    if not isinstance(files, Iterable):
        raise TypeError(f"files must be a path or a list of paths, not {files!r}")
    if directory is not None and not isinstance(directory, (str, os.PathLike)):
        raise TypeError(f"directory must be a path, not {directory!r}")
    if directory is not None:
        directory = os.fspath(directory)
    origins: dict[str, Path] = {}
    for each in files:
        if not isinstance(each, (str, os.PathLike)):
            raise TypeError(f"files must be a path or a list of paths, not {files!r}")
        if each == "":
            raise ValueError("a path must not be empty")
        # Without ".." and ".", so that it has a name.
        path = Path(os.path.abspath(Path(each).expanduser()))
        inside = sorted(path.rglob("*")) if path.is_dir() else [path]
        for file in inside:
            if not file.is_dir():
                name = file.relative_to(path.parent).as_posix()
                if origins.setdefault(name, file) != file:
                    raise ValueError(
                        f"{origins[name]} and {file} would both be {name} on the engines; push them separately"
                    )
                check_regular(file)
    if not origins:
        raise ValueError("files names no files to push")
    found = {
        name: (read_regular(file), file.stat().st_mode & 0o777) for name, file in origins.items()
    }
    return requests.apply("push_files", write_files, (found, directory), {})
