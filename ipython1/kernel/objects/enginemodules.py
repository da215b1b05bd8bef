"""Modules and files that clients send to engines: what happens on the engine.

Source that an engine has been given lies in a temporary directory of this process, which is removed when the process
ends; that of a process which was killed is removed by the next one on its host that needs such a directory.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import io
import os
import re
import shutil
import signal
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from ipython1.system import HAS_OWNERS, user_id

_PREFIX: Final = "ipython1-modules-"
_DIRECTORY: Final = re.compile(rf"{_PREFIX}(\d+)-\w+")


def files_of_module(paths: Sequence[Path]) -> Iterator[tuple[str, Path]]:
    """The files of a module or package as pairs of a name below ``sys.path`` and a path, without what Python compiles.

    :param paths: one file, or the directories of one package.
    """
    for path in paths:
        if not path.is_dir():
            yield path.name, path
            continue
        for folder, folders, names in os.walk(path):
            folders[:] = sorted(
                each for each in folders if each != "__pycache__" and not each.startswith(".")
            )
            for name in sorted(names):
                if not name.endswith((".pyc", ".pyo")) and not name.startswith("."):
                    file = Path(folder, name)
                    yield (path.name / file.relative_to(path)).as_posix(), file


def digest_of(files: Mapping[str, bytes]) -> str:
    """Names the contents of some files."""
    digest = blake2b(digest_size=16)
    for name in sorted(files):
        data = files[name]
        digest.update(f"{name}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


@dataclass(frozen=True, slots=True)
class _Installed:
    """What this process was given last.

    :ivar digest: what of it is loaded, or will be; empty as long as that has failed.
    :ivar directory: where it lies; None if the process had the same itself.
    """

    digest: str
    directory: str | None


_installed: dict[str, _Installed] = {}
_base: tuple[int, str] | None = None


def install_module(name: str, digest: str, archive: bytes) -> bool:
    """Make a module or package importable here, and load it anew if another version was loaded.

    :param archive: its files, as a zip.
    :returns: False when the same was here already.
    """
    __tracebackhide__ = True
    before = _installed.get(name)
    if before is not None and before.digest == digest:
        return False
    own = _own_copy(name)
    if own is not None and digest_of({at: path.read_bytes() for at, path in own}) == digest:
        if before is not None or _changed_lately(path for _, path in own):
            _load_anew(name)
        _installed[name] = _Installed(digest, before.directory if before is not None else None)
        return False
    directory = tempfile.mkdtemp(prefix=f"{name}-", dir=_base_directory())
    with zipfile.ZipFile(io.BytesIO(archive)) as files:
        files.extractall(directory)
    if before is not None and before.directory is not None:
        with suppress(ValueError):
            sys.path.remove(before.directory)
        shutil.rmtree(before.directory, ignore_errors=True)
    sys.path.insert(0, directory)
    _installed[name] = _Installed("", directory)
    importlib.invalidate_caches()
    _load_anew(name)
    _installed[name] = _Installed(digest, directory)
    return True


def _own_copy(name: str) -> list[tuple[str, Path]] | None:
    """The files of what this process itself finds under the name."""
    importlib.invalidate_caches()
    try:
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is None:
            return None
        if spec.submodule_search_locations is not None:
            return list(files_of_module([Path(each) for each in spec.submodule_search_locations]))
        return None if spec.origin is None else list(files_of_module([Path(spec.origin)]))
    except (ImportError, OSError, ValueError):
        return None


def _changed_lately(paths: Iterator[Path]) -> bool:
    """Whether files were changed after this process began, and so perhaps after it loaded them."""
    import psutil

    begun = psutil.Process().create_time()
    return any(path.stat().st_mtime >= begun for path in paths)


def _loaded(name: str) -> dict[str, ModuleType]:
    inside = f"{name}."
    return {
        each: module
        for each, module in list(sys.modules.items())
        if (each == name or each.startswith(inside)) and isinstance(module, ModuleType)
    }


def _load_anew(name: str) -> None:
    """Run loaded modules again, in the same module objects, and in the order in which they import each other."""
    modules = _loaded(name)
    if not modules:
        return
    finder = _Again(modules)
    for each in modules:
        del sys.modules[each]
    sys.meta_path.insert(0, finder)
    try:
        for each in sorted(modules):
            if each not in sys.modules:
                with _not_there_any_more(each):
                    importlib.import_module(each)
    except BaseException:
        for each, module in modules.items():
            sys.modules.setdefault(each, module)
        raise
    finally:
        sys.meta_path.remove(finder)


@contextmanager
def _not_there_any_more(name: str) -> Iterator[None]:
    """A module that the new version does not have is no error."""
    try:
        yield
    except ModuleNotFoundError as problem:
        if problem.name != name:
            raise


class _Again(importlib.abc.MetaPathFinder):
    """Finds modules as usual, and has them run in module objects that are there already."""

    def __init__(self, modules: Mapping[str, ModuleType]) -> None:
        self._modules = modules

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        module = self._modules.get(fullname)
        if module is None:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _SameObject(spec.loader, module)
        return spec


class _SameObject(importlib.abc.Loader):
    def __init__(self, loader: Any, module: ModuleType) -> None:
        self._loader = loader
        self._module = module

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        spec = module.__spec__
        assert spec is not None
        spec.loader = module.__loader__ = self._loader
        module.__file__ = spec.origin
        vars(module)["__cached__"] = spec.cached
        if spec.submodule_search_locations is not None:
            module.__path__ = spec.submodule_search_locations
        self._loader.exec_module(module)


def _base_directory() -> str:
    """The temporary directory of this process."""
    global _base
    if _base is None or _base[0] != os.getpid():
        _remove_abandoned()
        _base = (os.getpid(), tempfile.mkdtemp(prefix=f"{_PREFIX}{os.getpid()}-"))
        atexit.register(_remove, *_base)
        _remove_on_sigterm()
    return _base[1]


def _remove_on_sigterm() -> None:
    """Engines are ended by SIGTERM, which ends a process without further ado."""
    if os.name != "posix" or threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:

        def remove_and_end(number: int, frame: object) -> None:
            if _base is not None:
                _remove(*_base)
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

        signal.signal(signal.SIGTERM, remove_and_end)


def _remove(pid: int, directory: str) -> None:
    if os.getpid() == pid:
        shutil.rmtree(directory, ignore_errors=True)


def _remove_abandoned() -> None:
    """Remove the directories of processes that were killed."""
    import psutil

    with suppress(OSError):
        for entry in os.scandir(tempfile.gettempdir()):
            match = _DIRECTORY.fullmatch(entry.name)
            if match is None or psutil.pid_exists(int(match[1])):
                continue
            with suppress(OSError):
                mine = not HAS_OWNERS or entry.stat(follow_symlinks=False).st_uid == user_id()
                if mine and entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)


def write_files(files: Mapping[str, tuple[bytes, int]], directory: str | None) -> list[str]:
    """Write files below ``directory``; those that are there with the same contents are left alone.

    :param files: by relative name, their contents and modes.
    :returns: their paths.
    """
    __tracebackhide__ = True
    base = Path(directory or ".").expanduser().absolute()
    written: list[str] = []
    for name, (data, mode) in files.items():
        path = base / name
        written.append(str(path))
        if path.is_file() and path.read_bytes() == data:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        # Under another name first: several engines may write to the same place.
        part = path.with_name(f".{path.name}.{os.getpid()}-{time.monotonic_ns():x}")
        try:
            part.write_bytes(data)
            part.chmod(mode)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
    return written
