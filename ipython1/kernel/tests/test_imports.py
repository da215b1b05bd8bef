"""What modules load and can reach: no unpickling in the controller, nothing heavy in a client's first import."""

from __future__ import annotations

import ast
import importlib.util
import pkgutil
from collections.abc import Iterator
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import ipython1
import ipython1.kernel
from ipython1.kernel.tests.wiresupport import run_program

CONTROLLER = (
    "ipython1.kernel.controller.process",
    "ipython1.kernel.controller.controllerservice",
    "ipython1.kernel.controller.enginefc",
    "ipython1.kernel.tub.fastbroker",
    "ipython1.kernel.tub.gate",
    "ipython1.kernel.tub.kerneltub",
    "ipython1.kernel.controller.multienginefc",
    "ipython1.kernel.controller.taskfc",
    "ipython1.kernel.tub.tubs",
    "ipython1.kernel.scripts.ipcontroller",
    "ipython1.kernel.scripts.controlleroptions",
)
UNPICKLERS = ("pickle", "_pickle", "cloudpickle", "marshal", "dill", "shelve", "jsonpickle")
CONNECTING = """
import sys, threading
from ipython1.kernel import client
class Finder:
    def find_spec(self, name, path=None, target=None):
        if threading.current_thread() is not threading.main_thread():
            print(name)
sys.meta_path.insert(0, Finder())
try:
    client.MultiEngineClient("pb://" + 32 * "a" + "@tcp:127.0.0.1:1/multiengine")
except client.ConnectionError:
    print("was refused")
"""
RUNNERS = frozenset({"eval", "exec", "__import__"})
DISPLAY = ("ipython1", "ipython1.kernel.basics.errordisplay", "ipython1.notebook.html")
"""Modules used only for display in an IPython session, which a controller does not have."""


def source_of(module: str) -> Path | None:
    """Return the file of one of our modules."""
    base = Path(ipython1.__file__).parent.parent.joinpath(*module.split("."))
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.exists():
            return path
    return None


class Imports(ast.NodeVisitor):
    """All imports of a module, including those inside functions, but not those for type checkers."""

    def __init__(self, module: str) -> None:
        self.found: set[str] = set()
        self.calls: set[str] = set()
        path = source_of(module)
        assert path is not None, module
        self.visit(ast.parse(path.read_text()))

    def visit_If(self, node: ast.If) -> None:
        if not (isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"):
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        self.found |= {name.name for name in node.names}

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        assert node.level == 0 and node.module is not None
        self.found.add(node.module)
        self.found |= {f"{node.module}.{name.name}" for name in node.names}

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name):
            self.calls.add(node.func.id)
        self.generic_visit(node)


def reachable(roots: tuple[str, ...]) -> Iterator[tuple[str, Imports, str]]:
    """Yield each of our modules that can be imported from ``roots``, its imports, and how it is reached."""
    waiting = {root: root for root in roots}
    seen: set[str] = set()
    while waiting:
        module, way = waiting.popitem()
        seen.add(module)
        imports = Imports(module)
        yield module, imports, way
        for name in imports.found:
            ours = name.startswith("ipython1.") and source_of(name) is not None
            if ours and name not in seen and name not in DISPLAY:
                waiting[name] = f"{way} > {name}"


class ControllerTest(SynchronousTestCase):
    def test_no_unpickling_is_loaded(self):
        """In a process that has imported the whole controller, none of our modules has a name that unpickles."""
        run_program(
            f"""
            import importlib, sys
            for name in {CONTROLLER!r}:
                importlib.import_module(name)
            for name in ("cloudpickle", "dill", "numpy", "IPython"):
                assert name not in sys.modules, name
            import marshal, pickle
            forbidden = [pickle, marshal, pickle.loads, pickle.load, pickle.Unpickler, pickle._Unpickler,
                         pickle._loads, pickle._load, marshal.loads, marshal.load]
            ours = [name for name in sys.modules if name.split(".")[0] == "ipython1"]
            assert len(ours) > 30, ours
            for name in ours:
                for attribute, value in vars(sys.modules[name]).items():
                    assert not any(value is each for each in forbidden), (name, attribute)
            """
        )

    def test_no_unpickling_can_be_reached(self):
        """Not even by an import inside a function, which takes place only when it is called."""
        for module, imports, way in reachable(CONTROLLER):
            for name in imports.found:
                self.assertNotIn(name.split(".")[0], UNPICKLERS, f"{module} imports {name}: {way}")

    def test_nothing_that_arrives_is_run(self):
        for module, imports, way in reachable(CONTROLLER):
            self.assertEqual(imports.calls & RUNNERS, set(), f"{module}: {way}")

    def test_the_list_above_names_modules_that_exist(self):
        for name in CONTROLLER:
            self.assertIsNotNone(importlib.util.find_spec(name))


class ClientTest(SynchronousTestCase):
    def test_importing_the_client_module_loads_nothing_heavy(self):
        run_program(
            """
            import sys
            from ipython1.kernel import client
            heavy = ("twisted", "foolscap", "IPython", "numpy", "cloudpickle", "zope.interface", "asyncio", "OpenSSL")
            assert not [name for name in heavy if name in sys.modules]
            client.CompositeError, client.InvalidEngineID
            assert not [name for name in heavy if name in sys.modules]
            assert "MultiEngineClient" in dir(client)
            """
        )

    def test_the_client_itself_needs_neither_numpy_nor_ipython(self):
        run_program(
            """
            import sys
            from ipython1.kernel.client import MultiEngineClient
            import ipython1.kernel.clients.asyncclient
            assert not [name for name in ("IPython", "numpy", "matplotlib", "pandas") if name in sys.modules]
            """
        )

    def test_the_reactors_thread_loads_no_compiled_module(self):
        """A program that ends while another thread loads one that is written in Rust is aborted, up to Python 3.13."""
        *loaded, end = run_program(CONNECTING).splitlines()
        self.assertEqual(end, "was refused")
        foreign = ("cryptography", "OpenSSL", "_cffi_backend", "foolscap", "numpy")
        self.assertEqual([each for each in loaded if each.startswith(foreign)], [])

    def test_each_module_can_be_imported_alone(self):
        """No module requires another of our modules to be imported first."""
        found = pkgutil.walk_packages(ipython1.kernel.__path__, "ipython1.kernel.")
        names = [module.name for module in found if ".tests" not in module.name]
        self.assertGreater(len(names), 80)
        run_program(
            f"""
            import os, sys, tempfile
            # The slow part, once:
            import cloudpickle, foolscap.api, twisted.internet.ssl, twisted.internet.reactor
            import IPython.core.interactiveshell, joblib
            with tempfile.TemporaryDirectory() as sys.pycache_prefix:
                sys.dont_write_bytecode = False
                for name in {names!r}:
                    pid = os.fork()
                    if pid == 0:
                        status = 1
                        try:
                            __import__(name)
                            status = 0
                        finally:
                            os._exit(status)
                    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0, name
            """,
            timeout=600,  # some hundred processes
        )
