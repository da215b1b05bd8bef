"""Modules and files that are sent to engines; see also ``tests/programs/modules_session.py``."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import types
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from ipython1.kernel.basics.error import ClientError, CompositeError
from ipython1.kernel.calls.modules import SyncImports, locate_module, push_files, push_module
from ipython1.kernel.objects.enginemodules import digest_of, files_of_module, write_files
from ipython1.testing import InMemoryCluster


class FolderCase(SynchronousTestCase):
    """A folder of files."""

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="ipython1-test-")).resolve()
        self.addCleanup(shutil.rmtree, self.folder)

    def write(self, name: str, text: str = "") -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path


class FilesTests(FolderCase):
    """Which files make a module."""

    def test_a_package_without_what_python_compiles(self) -> None:
        for name in ("a.py", "sub/b.py", "sub/data.csv", "__pycache__/a.pyc", "old.pyc", ".git/x"):
            self.write(f"pack/{name}")
        names = [name for name, _ in files_of_module([self.folder / "pack"])]
        self.assertEqual(sorted(names), ["pack/a.py", "pack/sub/b.py", "pack/sub/data.csv"])

    def test_a_module(self) -> None:
        path = self.write("one.py")
        self.assertEqual(list(files_of_module([path])), [("one.py", path)])

    def test_digests_tell_contents_apart(self) -> None:
        digests = {
            digest_of(files)
            for files in ({"a": b"bc"}, {"ab": b"c"}, {"a": b"b", "c": b""}, {"a": b"b"}, {})
        }
        self.assertEqual(len(digests), 5)
        self.assertEqual(digest_of({"a": b"1", "b": b"2"}), digest_of({"b": b"2", "a": b"1"}))


class LocateTests(FolderCase):
    """What users name."""

    def test_paths(self) -> None:
        inner = self.write("pack/sub/inner.py")
        self.write("pack/__init__.py")
        self.write("pack/sub/__init__.py")
        expected = ("pack", [self.folder / "pack"])
        for path in (inner, inner.parent, self.folder / "pack", self.folder / "pack/__init__.py"):
            self.assertEqual(locate_module(path), expected)
            self.assertEqual(locate_module(str(path)), expected)
        alone = self.write("alone.py")
        self.assertEqual(locate_module(alone), ("alone", [alone]))

    def test_modules_and_their_names(self) -> None:
        import twisted
        import twisted.internet.defer

        expected = ("twisted", [Path(folder) for folder in twisted.__path__])
        for named in (twisted, twisted.internet.defer, "twisted.internet.defer", "twisted"):
            self.assertEqual(locate_module(named), expected)

    def test_what_cannot_be_sent(self) -> None:
        self.write("bad-name.py")
        self.write("notes.txt")
        self.write("empty/readme.txt")
        self.write("random.py")
        self.write("fast.so")
        self.write("mixed/__init__.py")
        self.write("mixed/_fast.cpython-311-x86_64-linux-gnu.so")
        for named, problem, text in (
            ("sys", ValueError, "built into Python"),
            ("email.mime", ValueError, "standard library"),
            (self.folder / "random.py", ValueError, "standard library"),
            (self.folder / "bad-name.py", ValueError, "is not a valid module name"),
            (self.folder / "notes.txt", ValueError, "push_files"),
            (self.folder / "empty", ValueError, "no .py files"),
            (self.folder / "fast.so", TypeError, "C extension"),
            (self.folder / "mixed", TypeError, "contains compiled modules"),
            (self.folder / "missing", ModuleNotFoundError, "missing"),
            ("no_such.module", ModuleNotFoundError, "no_such.module"),
            (types.ModuleType("made_up"), ValueError, "no file"),
            (types.ModuleType("__main__"), ValueError, "__main__"),
            (b"bytes", TypeError, "bytes"),
            (None, TypeError, "NoneType"),
            ("", ValueError, "empty"),
        ):
            raised = self.assertRaises(problem, push_module, named)
            self.assertIn(text, str(raised))


_PROGRAM = """
import os, sys
from ipython1.kernel.objects.enginemodules import digest_of, install_module
from ipython1.kernel.calls.modules import _zipped
def install(text):
    files = {"installed_for_test.py": text.encode()}
    return install_module("installed_for_test", digest_of(files), _zipped(files))
assert install("value = 1") and not install("value = 1")
import installed_for_test
first = installed_for_test.__file__
assert installed_for_test.value == 1
assert install("value = 2\\nother = 3")
assert installed_for_test.value == 2 and not os.path.exists(first)
import importlib
assert importlib.import_module("installed_for_test") is installed_for_test
print(installed_for_test.__file__, flush=True)
how = sys.argv[1]
if how == "sigterm":
    import time
    time.sleep(60)
elif how == "kill":
    os._exit(0)
"""


class InstallTests(FolderCase):
    """What an engine does, in processes of its own."""

    def start(self, how: str) -> tuple[subprocess.Popen[str], Path]:
        path = os.pathsep.join(path for path in sys.path if path)
        process = subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, how],
            env={**os.environ, "TMPDIR": str(self.folder), "PYTHONPATH": path},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(process.stdout.close)  # type: ignore[union-attr]
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    def test_nothing_is_left(self) -> None:
        process, source = self.start("end")
        self.assertEqual(process.wait(30), 0)
        self.assertEqual(source.name, "installed_for_test.py")
        process, source = self.start("sigterm")
        self.assertTrue(source.exists())
        process.terminate()
        self.assertEqual(process.wait(30), -signal.SIGTERM)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_what_a_killed_process_left_is_removed(self) -> None:
        process, source = self.start("kill")
        process.wait(30)
        self.assertTrue(source.exists())
        living = self.folder / f"ipython1-modules-{os.getpid()}-living"
        living.mkdir()
        process, _ = self.start("end")
        process.wait(30)
        self.assertEqual(list(self.folder.iterdir()), [living])


class PushFilesTests(FolderCase):
    """Copying files."""

    def test_files_and_folders(self) -> None:
        self.write("data/a.txt", "A")
        self.write("data/deep/b.bin", "B")
        script = self.write("run.sh", "#!/bin/sh\n")
        script.chmod(0o750)
        cluster = InMemoryCluster(2)
        client = cluster.multiengine()
        there = self.folder / "there"
        paths = client.push_files([self.folder / "data", script], directory=str(there))
        self.assertEqual(paths[0], paths[1])
        self.assertEqual(
            paths[0], [str(there / name) for name in ("data/a.txt", "data/deep/b.bin", "run.sh")]
        )
        self.assertEqual([Path(path).read_text()[0] for path in paths[0]], ["A", "B", "#"])
        self.assertEqual((there / "run.sh").stat().st_mode & 0o777, 0o750)

    def test_what_is_there_already_is_left_alone(self) -> None:
        path = self.write("same.txt", "same")
        before = path.stat().st_mtime_ns
        write_files({"same.txt": (b"same", 0o600)}, str(self.folder))
        self.assertEqual(
            (path.stat().st_mtime_ns, path.stat().st_mode & 0o777 == 0o600), (before, False)
        )
        write_files({"same.txt": (b"other", 0o600)}, str(self.folder))
        self.assertEqual(path.read_text(), "other")
        self.assertEqual([each.name for each in self.folder.iterdir()], ["same.txt"])

    def test_wrong_arguments(self) -> None:
        self.assertRaises(FileNotFoundError, push_files, self.folder / "missing")
        self.assertRaises(TypeError, push_files, 5)
        with self.assertRaisesRegex(TypeError, "files must be a path or a list of paths"):
            push_files([5])
        with self.assertRaisesRegex(TypeError, "directory must be a path, not 5"):
            push_files(self.folder, directory=5)
        self.assertRaises(ValueError, push_files, [])
        self.assertRaises(ValueError, push_files, "")

    def test_what_is_no_file_is_refused_at_once(self) -> None:
        """Reading a pipe or a device would never end."""
        self.write("data/a.txt", "A")
        pipe = self.folder / "data" / "pipe"
        os.mkfifo(pipe)
        link = self.folder / "link"
        link.symlink_to(pipe)
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind(str(self.folder / "socket"))
            for path, kind in (
                (pipe, "named pipe"),
                (link, "named pipe"),
                (self.folder / "data", "named pipe"),
                ("/dev/zero", "device"),
                (self.folder / "socket", "socket"),
            ):
                problem = self.assertRaises(OSError, push_files, path)
                self.assertIn(kind, str(problem))
        package = self.write("package/__init__.py", "").parent
        os.mkfifo(package / "data.csv")
        os.mkfifo(self.folder / "module.py")
        for path in (package, self.folder / "module.py"):
            problem = self.assertRaises(OSError, push_module, path)
            self.assertIn("named pipe", str(problem))
        problem = self.assertRaises(OSError, InMemoryCluster(1).multiengine().run, str(pipe))
        self.assertIn("named pipe", str(problem))

    def test_files_of_the_same_name(self) -> None:
        one, other = self.write("one/table.csv", "1"), self.write("other/table.csv", "2")
        problem = self.assertRaises(ValueError, push_files, [one, other])
        self.assertIn("would both be table.csv", str(problem))
        push_files([one, str(one)])

    def test_a_folder_named_by_dots(self) -> None:
        self.write("data/a.txt", "A")
        client = InMemoryCluster(1).multiengine()
        there = self.folder / "there"
        [paths] = client.push_files(self.folder / "data/deep/..", directory=str(there))
        self.assertEqual(paths, [str(there / "data/a.txt")])


class SyncImportsTests(SynchronousTestCase):
    """Imports on engines in memory, each with a namespace of its own."""

    def setUp(self) -> None:
        self.cluster = InMemoryCluster(2)
        client = self.cluster.multiengine()
        asynchronous = client.asynchronous
        run = asynchronous._run
        # As the blocking client does it.
        asynchronous._run = lambda *args: client._settle(run(*args))
        self.client = asynchronous

    def names(self, index: int) -> dict[str, object]:
        return self.cluster.engines[index].interpreter.user_ns

    def test_they_reach_the_users_namespace(self) -> None:
        with SyncImports(self.client, None, quiet=True):
            import colorsys as colors
            from calendar import isleap
        for index in range(2):
            self.assertIs(self.names(index)["colors"], colors)
            self.assertIs(self.names(index)["isleap"], isleap)

    def test_only_where_they_are_wanted(self) -> None:
        with SyncImports(self.client, (1,), quiet=True) as block:
            import colorsys
        self.assertTrue(colorsys)
        self.assertEqual([str(each) for each in block.statements], ["import colorsys"])
        self.assertNotIn("colorsys", self.names(0))
        self.assertIn("colorsys", self.names(1))

    def test_engines_are_not_troubled_with_what_fails_here(self) -> None:
        with self.assertRaises(ModuleNotFoundError):
            with SyncImports(self.client, None, quiet=True):
                import colorsys

                import no_such_module  # noqa: F401
        self.assertTrue(colorsys)
        self.assertNotIn("colorsys", self.names(0))
        with self.assertRaises(ClientError):
            with SyncImports(self.client, None, quiet=True):
                import colorsys

                colorsys.one = 1  # type: ignore[attr-defined]
        self.assertNotIn("colorsys", self.names(0))

    def test_engines_that_lack_a_module_say_so(self) -> None:
        sys.modules["only_here_for_test"] = module = types.ModuleType("only_here_for_test")
        self.addCleanup(sys.modules.pop, "only_here_for_test", None)
        run = self.client._run

        def without(*args: object) -> object:
            del sys.modules["only_here_for_test"]
            return run(*args)

        self.client._run = without
        with self.assertRaises(CompositeError) as raised:
            with SyncImports(self.client, None, quiet=True):
                import only_here_for_test
        self.assertIs(only_here_for_test, module)
        self.assertIn(
            "[1:sync_imports]: ModuleNotFoundError: No module named 'only_here_for_test'",
            str(raised.exception),
        )
