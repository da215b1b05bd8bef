"""The documentation: run or at least check every example.  (``.ci/run`` builds the pages without a warning.)"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
import tempfile
import tomllib
import unittest as standard_unittest
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from twisted.python.reflect import namedAny
from twisted.trial import unittest

from ipython1.kernel.scripts.clusterwords import find_word
from ipython1.testing import RealCluster
from tests.programs.doc_examples import (
    LANGUAGES,
    Block,
    Example,
    find_blocks,
    find_commands,
    find_examples,
    pages,
    split_session,
)

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs" / "source"
EXAMPLES = ROOT / "docs" / "examples"
RUNNER = ROOT / "tests" / "programs" / "run_doc_page.py"

INI_OF_PAGE = {"extending.txt": EXAMPLES / "race.ini"}
"""The pages whose cluster has a configuration file."""

OWN_CLUSTER = (*INI_OF_PAGE, "recovering.txt", "sharing.txt")
"""Pages whose cluster is another one afterwards, or begins as another one."""

MADE_BY_TESTS = "transcripts"
"""The directory of pages that other tests write."""

PAGES = pages(DOCS)
SESSION_PAGES = [
    path
    for path in PAGES
    if MADE_BY_TESTS not in path.parts and find_examples(path.read_text(encoding="utf-8"))
]


def load(path: Path) -> ModuleType:
    """Load a module that is not in a package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class SessionTests(unittest.SynchronousTestCase):
    """The sessions of the pages; the methods for those on a cluster of their own are created below."""

    def run_pages(self, *paths: Path) -> None:
        """Run the sessions of pages in turn on one cluster, each on new engines."""
        if importlib.util.find_spec("numpy") is None:
            paths = tuple(path for path in paths if "import numpy" not in path.read_text("utf-8"))
            if not paths:
                raise unittest.SkipTest("the page uses numpy, which is not installed")
        cluster = RealCluster(4, environ=with_examples())
        self.addCleanup(cluster.stop)
        ini = INI_OF_PAGE.get(paths[0].name)
        if ini is not None:
            write_ini(cluster.ipython_dir, "ipython1.kernel.ini", ini.read_text())
        cluster.start()
        cluster.run_program(RUNNER, *map(str, paths), timeout=600.0)
        for path in paths:
            for block in find_blocks(path.read_text("utf-8")):
                if shown := output_of(block, "ipcluster -n 4"):
                    # Later lines tell what the sessions did to the engines.
                    printed = "".join(cluster.output).strip()
                    self.assertEqual(printed[: len(shown)], shown, path.name)

    def test_pages_that_leave_the_cluster_as_it_was(self) -> None:
        """Their sessions work as shown."""
        paths = [path for path in SESSION_PAGES if path.name not in OWN_CLUSTER]
        # The pages about tasks show their numbers, which the controller counts.
        self.run_pages(*sorted(paths, key=lambda path: path.name != "tasks.txt"))


def _add_page_tests() -> None:
    for path in SESSION_PAGES:
        if path.name not in OWN_CLUSTER:
            continue

        def test(self: SessionTests, path: Path = path) -> None:
            self.run_pages(path)

        test.__doc__ = f"The sessions in {path.name} work as shown."
        setattr(SessionTests, f"test_{path.stem}", test)


_add_page_tests()


def with_examples() -> dict[str, str]:
    """The environment variables with which processes can import the examples."""
    return {"PYTHONPATH": os.pathsep.join([str(EXAMPLES), *(path for path in sys.path if path)])}


def write_ini(directory: Path, name: str, text: str) -> None:
    """Write a configuration file that nobody else can write to."""
    path = directory / name
    path.touch(mode=0o600)
    path.write_text(text)


def output_of(block: Block, command: str) -> str:
    """The output in a ``console`` block of one command."""
    first, _, rest = block.text.partition("\n")
    if block.language != "console" or first != f"$ {command}" or "\n$ " in rest:
        return ""
    return rest.strip()


class ProgramTests(unittest.SynchronousTestCase):
    """The programs in ``docs/examples``."""

    def test_programs_print_what_the_pages_show(self) -> None:
        programs = sorted(EXAMPLES.glob("*.out"))
        self.assertTrue(programs)
        with RealCluster(4) as cluster:
            for expected in programs:
                result = cluster.run_program(expected.with_suffix(".py"))
                self.assertEqual(result.stdout, expected.read_text(), expected.name)

    def test_the_example_of_a_test_passes(self) -> None:
        cases = standard_unittest.defaultTestLoader.loadTestsFromModule(
            load(EXAMPLES / "test_death.py")
        )
        result = standard_unittest.TestResult()
        cases.run(result)
        self.assertEqual((result.testsRun, result.errors, result.failures), (1, [], []))

    def test_the_examples_fulfil_their_interfaces(self) -> None:
        from zope.interface.verify import verifyObject

        from ipython1.testing import InMemoryCluster

        race = load(EXAMPLES / "race.py")
        adapted = race.IRace(InMemoryCluster(1).controller)
        self.assertTrue(verifyObject(race.IRace, adapted))
        self.assertTrue(verifyObject(race.IFCRace, race.IFCRace(adapted)))


class BlockTests(unittest.SynchronousTestCase):
    """Every block of code declares its language, and is valid in it."""

    def setUp(self) -> None:
        self.blocks = [
            (path, block)
            for path in PAGES
            for block in find_blocks(path.read_text(encoding="utf-8"))
        ]

    def wrong(self, problems: Sequence[str]) -> None:
        self.assertEqual([], list(problems), "\n" + "\n".join(problems))

    def test_every_block_has_a_language(self) -> None:
        """Mark blocks that cannot be tested as ``text``, so that nothing is skipped by accident."""
        self.wrong(
            f"{path.name}, line {block.line}: write '.. code-block:: LANGUAGE', of {', '.join(LANGUAGES)}"
            for path, block in self.blocks
            if block.language not in LANGUAGES
        )

    def test_included_files_are_there(self) -> None:
        self.wrong(
            f"{path.name}, line {block.line}: there is no {block.argument}"
            for path, block in self.blocks
            if block.argument and not (path.parent / block.argument).exists()
        )

    def test_ini_examples_are_valid(self) -> None:
        problems = []
        for path, block in self.blocks:
            if block.language == "ini":
                text = (path.parent / block.argument).read_text() if block.argument else block.text
                problem = ini_problem(text, block.options.get("caption", "ipython1.kernel.ini"))
                if problem:
                    problems.append(f"{path.name}, line {block.line}: {problem}")
        self.wrong(problems)

    def test_commands_exist_with_their_options(self) -> None:
        problems = []
        for path, block in self.blocks:
            if block.language == "console":
                for line, command in find_commands(block):
                    problem = command_problem(command)
                    if problem:
                        problems.append(f"{path.name}, line {line}: {command}: {problem}")
        self.wrong(problems)

    def test_the_readme_too(self) -> None:
        """The README's commands are valid."""
        readme = (ROOT / "README.txt").read_text()
        commands = re.findall(r"^    (?:\$ )?((?:scripts/|ip\w+ |pip ).*)$", readme, re.MULTILINE)
        self.assertIn("scripts/run-main-job", commands)
        self.assertIn("scripts/run-tests", commands)
        self.wrong(
            [
                f"{command}: {problem}"
                for command in commands
                if (problem := command_problem(command))
            ]
        )


def ini_problem(text: str, name: str) -> str | None:
    """The problems in the text of a configuration file."""
    from ipython1.config import ConfigError

    manager = namedAny(f"{name.removesuffix('.ini')}.config.config_manager")
    with tempfile.TemporaryDirectory() as directory:
        write_ini(Path(directory), name, text)
        try:
            manager.get_config(directory)
        except ConfigError as problem:
            return "; ".join(problem.problems)
    return None


OTHERS = {
    "ssh",
    "scp",
    "rm",
    "ls",
    "cd",
    "tail",
    "mkdir",
    "chmod",
    ".",
    "export",
    "eval",
    "ulimit",
    "git",
}
"""Ordinary commands of a user's system."""


def command_problem(command: str) -> str | None:
    """The problem with a shell command line."""
    words = list(shlex.shlex(command, posix=True, punctuation_chars="&;|"))
    lexer = shlex.shlex(command, posix=True, punctuation_chars="&;|")
    lexer.whitespace_split = True
    words = list(lexer)
    part: list[str] = []
    for word in [*words, ";"]:
        if word[0] not in "&;|":
            part.append(word)
            continue
        while part and re.match(r"\w+=", part[0]):
            part = part[1:]
        problem = simple_command_problem(part) if part else None
        if problem:
            return problem
        part = []
    return None


def simple_command_problem(words: list[str]) -> str | None:
    """The problem with one command."""
    name, arguments = words[0].removeprefix(".venv/bin/"), words[1:]
    if name in ("ipcluster", "ipcontroller", "ipengine"):
        return option_problem(name, arguments)
    if name in ("mpirun", "mpiexec"):
        at = arguments.index("ipengine") if "ipengine" in arguments else len(arguments)
        return simple_command_problem(arguments[at:]) if arguments[at:] else "it starts no engine"
    if name in ("trial", "nosetests"):
        return names_problem([word for word in arguments if not word.startswith("-")])
    if name == "pip" and arguments[:1] == ["install"]:
        return extras_problem(arguments[1:])
    if name.startswith(("scripts/", ".ci/")):
        return script_problem(name, arguments)
    if name == "python" and arguments and arguments[0].startswith("scripts/"):
        return script_problem(arguments[0], arguments[1:])
    if name in ("python", "sphinx-build", "lint-imports") or name in OTHERS:
        return None
    return f"{name} is not a known command"


def option_problem(name: str, arguments: list[str]) -> str | None:
    """The error from the command's own parser."""
    if arguments[:1] == ["furl"]:
        name, arguments = f"{name} furl", arguments[1:]
    if name == "ipcluster":
        word, arguments = find_word(arguments)
        name = f"ipcluster {word}".strip()
    parser = load(DOCS / "_ext" / "from_the_code.py").command_parser(name)
    told: list[str] = []

    def error(message: str) -> Any:
        told.append(message)
        raise ValueError(message)

    parser.error = error
    try:
        parser.parse_args(arguments)
    except ValueError:
        return told[0]
    except SystemExit as end:  # from the parser of a part of it
        return f"it ends with status {end.code}"
    return None


def names_problem(names: list[str]) -> str | None:
    """The problem with names of tests: they cannot be found."""
    for name in names:
        try:
            namedAny(name)
        except Exception as problem:
            return f"{type(problem).__name__}: {problem}"
    return None


def extras_problem(arguments: list[str]) -> str | None:
    """The problem with extras: they do not exist."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for argument in arguments:
        extras = re.fullmatch(r"\.\[(.*)\]", argument)
        for extra in extras[1].split(",") if extras else ():
            if extra not in project["optional-dependencies"]:
                return f"there is no extra {extra!r}"
    return None


def script_problem(name: str, arguments: list[str]) -> str | None:
    """The problem with a script of the source tree: it is missing, or does not mention its options."""
    path = ROOT / name
    if not path.exists() or not os.access(path, os.X_OK):
        return f"{name} is not there, or cannot be run"
    missing = [word for word in arguments if word.startswith("-") and word not in path.read_text()]
    return f"it has no option {missing[0]}" if missing else None


class FinderTests(unittest.SynchronousTestCase):
    """Finding and comparing examples, since a mistake there would leave the pages untested."""

    PAGE = """Title
=====

Text with a literal block::

    no language

.. code-block:: pycon
   :caption: one

    >>> print('a')
    a

    b
    >>> if True:
    ...     1/0
    Traceback (most recent call last):
      ...
    ZeroDivisionError: division by zero

.. note::

   .. code-block:: console

       $ ipcluster -n 4 \\
             --cluster-id=x
       output

.. literalinclude:: examples/x.py
   :language: python

>>> bare
"""

    def test_blocks(self) -> None:
        blocks = find_blocks(self.PAGE)
        self.assertEqual(
            [(block.line, block.language) for block in blocks],
            [(6, ""), (11, "pycon"), (25, "console"), (29, "python"), (32, "")],
        )
        self.assertEqual(blocks[1].options, {"caption": "one"})
        self.assertEqual(find_commands(blocks[2]), [(25, "ipcluster -n 4 --cluster-id=x")])
        self.assertEqual(blocks[3].argument, "examples/x.py")

    def test_sessions(self) -> None:
        first, second = find_examples(self.PAGE)
        self.assertEqual((first.line, first.source, first.want), (11, "print('a')\n", "a\n\nb"))
        self.assertEqual(second.source, "if True:\n    1/0\n")
        self.assertTrue(second.matches_error("ZeroDivisionError", "division by zero"))
        self.assertFalse(second.matches_error("ZeroDivisionError", "division by one"))
        self.assertFalse(second.matches_error("ValueError", "division by zero"))
        self.assertFalse(first.matches_error("a", ""))

    def test_ipython_sessions(self) -> None:
        text = "In [1]: for i in 'ab':\n   ...:     i\n\nIn [2]: 1 + 1\nOut[2]: 2"
        first, second = split_session(Block(1, "ipython", text))
        self.assertEqual(first.source, "for i in 'ab':\n    i\n")
        self.assertTrue(second.matches("Out[7]: 2\n\n"))
        self.assertFalse(second.matches("Out[7]: 3\n\n"))

    def test_what_varies(self) -> None:
        example = Example(
            1, "pycon", "", "{'started': '2008/03/08 03:41:42', 'duration': 2.5} pid ..."
        )
        self.assertTrue(
            example.matches("{'started': '2026/01/01 00:00:00', 'duration': 1e-05} pid 17\n")
        )
        self.assertFalse(example.matches("{'started': '2026/01/01', 'duration': 1e-05} pid 17\n"))

    def test_wrong_commands_are_found(self) -> None:
        for command, problem in (
            ("ipcluster -n 4", None),
            ("ipcluster --nonsense", "--nonsense"),
            ("X=1 ipengine --mpi=mpi4py &", None),
            ("mpirun -n 4 ipengine --mpii=mpi4py", "--mpii"),
            ("ipcontroller --client-port=none", "none"),
            ("frobnicate", "not a known command"),
            ("scripts/no-such-script", "not there"),
            ("trial ipython1.nothing", "nothing"),
            ("pip install .[moon]", "moon"),
        ):
            found = command_problem(command)
            if problem is None:
                self.assertIsNone(found, command)
            else:
                self.assertIn(problem, found or "", command)
