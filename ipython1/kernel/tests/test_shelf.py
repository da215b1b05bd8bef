"""The shelf: the modules directly in ``ipython1/kernel`` are the public names, and nothing else."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from pathlib import Path

from twisted.trial import unittest

import ipython1.kernel
from ipython1.kernel.config import config_manager
from ipython1.kernel.tests.wiresupport import run_program

KERNEL = Path(ipython1.kernel.__file__).parent
DOCS = KERNEL.parents[1] / "docs"
LAZY = {"client", "engineservice", "task"}
"""Modules whose names are loaded on first use."""

OF_2008 = (
    *("asyncclient", "asynclient", "client", "contexts", "controllerservice", "enginefc"),
    *("engineservice", "error", "magic", "map", "mapper", "multiengine", "multiengineclient"),
    *("multienginefc", "parallelfunction", "task", "taskclient", "taskfc", "twistedutil"),
)
"""Modules that the documents of 2008 import or refer to."""

_PATH = re.compile(r"ipython1\.kernel(?:\.[A-Za-z_]+)+")
_FROM = re.compile(r"from (ipython1\.kernel(?:\.[a-z_]+)*) import (\w+(?:, \w+)*)")
_FILES = {"ipython1.kernel.ini"}


def shelf() -> list[str]:
    """Return the names of the modules."""
    return sorted(path.stem for path in KERNEL.glob("*.py") if path.stem != "__init__")


def documented() -> Iterator[tuple[str, str]]:
    """Yield every dotted name below ``ipython1.kernel`` in the documentation, and its page."""
    for path in sorted(DOCS.rglob("*")):
        if path.suffix in (".txt", ".py", ".ini") and "_build" not in path.parts:
            text = path.read_text(encoding="utf-8")
            names = set(_PATH.findall(text)) - _FILES
            for module, imported in _FROM.findall(text):
                names |= {f"{module}.{name}" for name in imported.split(", ")}
            for name in sorted(names):
                yield name, path.name


def find(name: str) -> object:
    """Return the object with a dotted name.

    :raises LookupError: if there is none.
    """
    parts = name.split(".")
    for count in range(len(parts), 1, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for part in parts[count:]:
            if not hasattr(found, part):
                raise LookupError(name)
            found = getattr(found, part)
        return found
    raise LookupError(name)


class ShelfTests(unittest.SynchronousTestCase):
    def test_modules_are_exact_re_exports(self) -> None:
        for name in set(shelf()) - LAZY:
            docstring, *rest = ast.parse((KERNEL / f"{name}.py").read_text()).body
            self.assertIsInstance(docstring, ast.Expr, name)
            *imports, last = rest
            names: list[str] = []
            for statement in imports:
                assert isinstance(statement, ast.ImportFrom) and statement.module, name
                self.assertRegex(statement.module, r"^ipython1\.kernel\.[a-z]+\.[a-z_]+$", name)
                names += [alias.asname or alias.name for alias in statement.names]
            assert isinstance(last, ast.Assign), name
            self.assertEqual(ast.unparse(last.targets[0]), "__all__")
            self.assertEqual(sorted(ast.literal_eval(last.value)), sorted(names), name)

    def test_all_names_can_be_had(self) -> None:
        for name in shelf():
            module = importlib.import_module(f"ipython1.kernel.{name}")
            self.assertTrue(module.__doc__, name)
            for each in module.__all__:
                getattr(module, each)

    def test_what_programs_of_2008_import_is_there(self) -> None:
        self.assertEqual(set(OF_2008) - set(shelf()), set())

    def test_everything_that_the_documentation_names_can_be_imported(self) -> None:
        if not DOCS.exists():
            raise unittest.SkipTest("the documentation is not installed")
        seen = 0
        for name, page in documented():
            try:
                find(name)
            except LookupError:
                self.fail(f"{page} names {name}, which is not there")
            seen += 1
        self.assertGreater(seen, 100)

    def test_the_documentation_names_public_places_only(self) -> None:
        """Rooms may be rearranged; this must not affect what users read."""
        if not DOCS.exists():
            raise unittest.SkipTest("the documentation is not installed")
        public = {*shelf(), "calls", "config", "launchers", "scripts"}
        for name, page in documented():
            place = name.split(".")[2]
            if place[0].islower():
                self.assertIn(place, public, f"{page}: {name}")

    def test_results_and_tasks_are_pickled_under_their_public_names(self) -> None:
        """So that a file which somebody keeps can be read when the code has moved."""
        run_program(
            """
            import cloudpickle
            from ipython1.kernel import client, taskobjects
            for kind, module in (
                (client.ResultList, "resultlist"),
                (client.QueueStatusList, "resultlist"),
                (client.TaskResult, "taskobjects"),
                (taskobjects.BaseTask, "taskobjects"),
                (client.StringTask, "taskobjects"),
                (client.MapTask, "taskobjects"),
            ):
                data = cloudpickle.dumps(kind)
                assert f"ipython1.kernel.{module}".encode() in data and len(data) < 100, data
            """
        )


class ClientModuleTests(unittest.SynchronousTestCase):
    def test_without_a_cluster_everything_can_be_looked_at(self) -> None:
        run_program(
            """
            import inspect, os, tempfile
            with tempfile.TemporaryDirectory() as os.environ["IPYTHONDIR"]:
                from ipython1.kernel import client
                assert not hasattr(client, "default_mec_address")
                assert not hasattr(client, "default_task_address")
                names = [name for name, _ in inspect.getmembers(client)]
                assert names == sorted(client.__all__), names
                try:
                    client.default_mec_address
                except client.NoDefaultAddress as problem:
                    assert "ipcluster -n 4" in str(problem), problem
            """
        )

    def test_it_shows_what_users_use(self) -> None:
        from ipython1.kernel import client

        shown = set(dir(client))
        self.assertLessEqual(
            {"Cluster", "MapTask", "MultiEngineClient", "PendingResult", "TaskClient", "remote"},
            shown,
        )
        self.assertEqual(shown & {"Any", "annotations", "builtins", "importlib", "to_wire"}, set())
        self.assertFalse([name for name in shown if name.startswith("_")])
        self.assertLessEqual({"default_mec_address", "default_task_address"}, shown)

    def test_unknown_names_are_refused(self) -> None:
        from ipython1.kernel import client

        with self.assertRaisesRegex(AttributeError, "'ipython1.kernel.client' has no .* 'taks'"):
            client.taks
        with self.assertRaisesRegex(AttributeError, "'Client': MultiEngineClient.. works with all"):
            client.Client


class LoadingTests(unittest.SynchronousTestCase):
    def check(self, statement: str, *rooms: str) -> None:
        """Check that ``statement`` loads nothing from ``rooms``."""
        run_program(
            f"""
            import sys
            {"; ".join(filter(None, map(str.strip, statement.splitlines())))}
            rooms = tuple(f"ipython1.kernel.{{room}}" for room in {rooms!r})
            loaded = [name for name in sys.modules if name.startswith(rooms)]
            assert not loaded, loaded
            """
        )

    def test_clients_load_nothing_of_the_controller_and_of_engines(self) -> None:
        for name in ("MultiEngineClient", "TaskClient", "get_task_client"):
            self.check(
                f"from ipython1.kernel.client import {name}; {name}", "controller", "engine."
            )
        self.check("import ipython1.kernel.asyncclient", "controller", "engine.")

    def test_extensions_of_the_controller_load_nothing_that_pickles(self) -> None:
        self.check("import ipython1.kernel.engineservice", "engine.", "objects.")
        run_program(
            """
            import sys
            from ipython1.kernel import engineservice
            assert "cloudpickle" not in sys.modules
            assert engineservice.IEngineBase.implementedBy(engineservice.EngineService)
            """
        )

    def test_engines_load_nothing_of_the_controller_and_of_clients(self) -> None:
        self.check(
            "from ipython1.kernel.scripts import ipengine; ipengine.preload()",
            *("controller", "calls", "tasks.", "futures", "clients", "clusters"),
        )

    def test_forked_engines_import_nothing_more(self) -> None:
        """What they are forked from has all that a session and a connection need, so that many start fast."""
        run_program(
            """
            import sys
            from ipython1.kernel.scripts import ipengine; ipengine.preload()
            from ipython1.core.interpreter import Interpreter
            from ipython1.kernel.tub import tubs
            before = set(sys.modules)
            tubs.make_tub()
            Interpreter().close()
            parts = ("IPython", "cryptography", "foolscap", "ipython1", "twisted")
            more = [name for name in set(sys.modules) - before if name.startswith(parts)]
            assert not more, more
            """
        )

    def test_the_controller_loads_nothing_that_unpickles(self) -> None:
        """Neither with the interfaces that it offers unless the ini file says otherwise."""
        offered = config_manager.root.defaults()["controller"]["controller_interfaces"].values()
        names = [each[key] for each in offered for key in ("controller_interface", "fc_interface")]
        self.assertEqual(len(names), 6)
        modules = ", ".join(sorted({name.rpartition(".")[0] for name in names}))
        self.check(
            f"""
            from ipython1.kernel.scripts import ipcontroller; ipcontroller.preload()
            import {modules}
            """,
            *("objects", "engine.", "calls", "tasks.", "clients", "futures"),
        )
