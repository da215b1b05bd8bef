"""joblib's own tests of ``Parallel``, for the backend on engines; needs pytest, which joblib's tests import.

Run as ``standard_joblib_tests.py mec`` or ``tc``.  The last line says how many cases there were.

Every test that has a parameter for a backend is called with ours, in all combinations of its other parameters.  Tests
that name their backend themselves are about that one.
"""

from __future__ import annotations

import importlib
import itertools
import multiprocessing
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from joblib.test import test_parallel

from ipython1.kernel import client

KIND = sys.argv[1]
OURS = "ipython1"
BACKENDS = ("backend", "parent_backend", "child_backend", "outer_backend", "inner_backend")
"""The names of parameters that are the name of a backend."""

NOT_IN_OTHERS = "its program, in another process, does not register our backend"
OWN_POOLS = "looks into joblib's own pools"

DO_NOT_APPLY = {
    "test_auto_memmap_on_arrays_from_generator": "engines get arrays through the network, not as files",
    "test_backend_context_manager": "its backends are classes of its own",
    "test_background_thread_parallelism": "does not use the parameter",
    "test_error_capture": OWN_POOLS,
    "test_memmapping_leaks": "engines get arrays through the network, not as files",
    "test_nested_backend_in_sequential": "expects that a class is registered, not a function",
    "test_nested_exception_dispatch": "joblib expects that it fails",
    "test_nested_parallel_warnings": "is about warnings of joblib's own backends",
    "test_nested_parallelism_limit": "derives the class of the backend from its name",
    "test_no_blas_crash_or_freeze_with_subprocesses": NOT_IN_OTHERS,
    "test_parallel_thread_limit": "needs a compiled module of joblib's developers",
    "test_parallel_with_interactively_defined_functions": NOT_IN_OTHERS,
    "test_parallel_with_unpicklable_functions_in_args": NOT_IN_OTHERS,
}


def own_values(name: str, values: Any) -> list[Any]:
    """Return the values for a parameter, or for several whose names are separated by commas."""
    names = [each.strip() for each in name.split(",")]
    if len(names) == 1:
        return [OURS] if name in BACKENDS else list(values)
    if not set(names) & set(BACKENDS):
        return list(values)
    # Only the backend changes; what the test expects is what it expects of threads.
    rows = [row for row in values if "threading" in row]
    return [tuple(OURS if each == "threading" else each for each in row) for row in rows]


def cases(test: Callable[..., None]) -> Iterator[dict[str, Any]]:
    """Return the arguments of all calls of a test; none if it has no parameter for a backend."""
    marks = [mark for mark in getattr(test, "pytestmark", ()) if mark.name == "parametrize"]
    names = [mark.args[0] for mark in marks]
    if not {each.strip() for name in names for each in name.split(",")} & set(BACKENDS):
        return
    for row in itertools.product(*(own_values(*mark.args[:2]) for mark in marks)):
        arguments: dict[str, Any] = {}
        for name, value in zip(names, row, strict=True):
            if "," in name:
                arguments.update(zip((n.strip() for n in name.split(",")), value, strict=True))
            else:
                arguments[name] = value
        yield arguments


def run(test: Callable[..., None], arguments: dict[str, Any]) -> str:
    """Run a case, and return what is wrong."""
    code = test.__code__
    patches = pytest.MonkeyPatch()
    if "monkeypatch" in code.co_varnames[: code.co_argcount]:
        arguments = {**arguments, "monkeypatch": patches}
    try:
        test(**arguments)
    except pytest.skip.Exception as problem:
        print(f"skipped: {problem}")
    except BaseException:
        return traceback.format_exc()
    finally:
        patches.undo()
    return ""


def main() -> int:
    mec = client.MultiEngineClient()
    client.register_joblib_backend(mec if KIND == "mec" else client.TaskClient())
    # Proxies of managers work only in processes that know the key.
    key = bytes(multiprocessing.current_process().authkey)
    # The first test interrupts engines at once; an import that is interrupted would leave half of joblib behind.
    mec.apply(prepare, key)
    number = 0
    wrong: list[str] = []
    for name in sorted(vars(test_parallel)):
        if not name.startswith("test_") or (len(sys.argv) > 2 and name not in sys.argv[2:]):
            continue
        test = getattr(test_parallel, name)
        own_cases = list(cases(test))
        if not own_cases:
            continue
        if name in DO_NOT_APPLY:
            print(f"{name} does not apply: {DO_NOT_APPLY[name]}")
            continue
        began = time.monotonic()
        for arguments in own_cases:
            number += 1
            problem = run(test, arguments)
            if problem:
                wrong.append(f"{name}({arguments}):\n{problem}")
        print(f"{name}: {len(own_cases)} cases, {time.monotonic() - began:.2f} s", flush=True)
    print("\n".join(wrong))
    print(f"{number} cases of joblib's tests ran with the {KIND} backend")
    return 1 if wrong else 0


def prepare(key: bytes) -> None:
    importlib.import_module("joblib.test.test_parallel")
    multiprocessing.current_process().authkey = key


if __name__ == "__main__":
    sys.exit(main())
