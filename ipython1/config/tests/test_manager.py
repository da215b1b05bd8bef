"""Configuration files: defaults, what a file changes, wrong files, and the file to start from."""

import os
import re
import shlex
import stat
import subprocess
import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from ipython1.config import ConfigError, ConfigManager, Option, Section, kinds
from ipython1.config.manager import find_ipython_dir
from ipython1.config.reading import read_ini
from ipython1.core.config import config_manager as core_manager
from ipython1.kernel.config import config_manager as kernel_manager
from ipython1.notebook.config import config_manager as notebook_manager
from ipython1.testing.folders import temporary_path

FRUIT = Section(
    "fruit",
    "All about fruit.",
    (
        Option("count", kinds.integer(0, 10), 3, "How many."),
        Option("weight", kinds.number(0.5, unit="kg"), 1.0, "How heavy."),
        Option("colour", kinds.choice("red", "green"), "red", "Which colour."),
        Option("ripe", kinds.BOOLEAN, False, "Whether to eat it."),
        Option("name", kinds.TEXT, "apple", "What it is called."),
        Option("others", kinds.WORDS, (), "What else.", example=("pear",)),
        Option("space", kinds.SIZE, 1024, "Where it goes."),
    ),
    sections=(Section("peel", "", (Option("thick", kinds.BOOLEAN, True, "Or thin."),)),),
    any_section=Section("my_part", "More parts.", (Option("size", kinds.SIZE, 0, ""),)),
)
RECIPES = Section(
    "recipes",
    "What to do.",
    (Option("raw", kinds.CODE, "eat()", "As it is."),),
    any_option=Option("mine", kinds.CODE, "", "Your own.", example="\ncook()\n"),
)
MANAGER = ConfigManager("ipython1.fruit", (FRUIT, RECIPES))


class ManagerTestCase(SynchronousTestCase):
    manager = MANAGER

    def setUp(self):
        self.directory = Path(temporary_path(self))
        self.directory.mkdir(mode=0o700, parents=True)
        self.path = self.manager.path(self.directory)

    def get(self, text):
        self.path.write_bytes(text if isinstance(text, bytes) else text.encode())
        self.path.chmod(0o600)
        return self.manager.get_config(self.directory)

    def assert_wrong(self, text, *words):
        exception = self.assertRaises(ConfigError, self.get, text)
        for word in (str(self.path.resolve()), *words):
            self.assertIn(word, str(exception))
        self.assertNotIn("\n", str(exception))
        return exception


class ReadTests(ManagerTestCase):
    def test_without_a_file_the_defaults_hold(self):
        config = MANAGER.get_config(self.directory)
        self.assertEqual(
            config,
            {
                "fruit": {
                    "count": 3,
                    "weight": 1.0,
                    "colour": "red",
                    "ripe": False,
                    "name": "apple",
                    "others": (),
                    "space": 1024,
                    "peel": {"thick": True},
                },
                "recipes": {"raw": "eat()"},
            },
        )

    def test_one_callers_changes_are_not_seen_by_the_next(self):
        MANAGER.get_config(self.directory)["fruit"]["peel"]["thick"] = False
        self.assertTrue(MANAGER.get_config(self.directory)["fruit"]["peel"]["thick"])

    def test_empty_file_changes_nothing(self):
        self.assertEqual(self.get(""), MANAGER.get_config(self.directory / "elsewhere"))
        self.assertEqual(self.get("# nothing\n[fruit]\n"), self.get("\n\n"))

    def test_file_goes_over_defaults_and_leaves_the_others(self):
        config = self.get(
            "[fruit]\ncount = 7\nweight = 2.5\ncolour = green\nripe = yes\nname = 'a, b # c'\n"
            "others = pear, plum\nspace = 2 KiB\n[[peel]]\nthick = off\n"
        )["fruit"]
        self.assertEqual(
            config,
            {
                "count": 7,
                "weight": 2.5,
                "colour": "green",
                "ripe": True,
                "name": "a, b # c",
                "others": ("pear", "plum"),
                "space": 2048,
                "peel": {"thick": False},
            },
        )
        self.assertEqual(self.get("[fruit]\nripe = True")["fruit"]["count"], 3)
        self.assertEqual(self.get("[fruit]\nothers = pear")["fruit"]["others"], ("pear",))

    def test_percent_and_dollar_signs_are_ordinary_characters(self):
        self.assertEqual(
            self.get("[fruit]\nname = 100% $HOME %(x)s")["fruit"]["name"], "100% $HOME %(x)s"
        )

    def test_names_of_the_users_own_where_they_are_allowed(self):
        config = self.get(
            '[fruit]\n[[core]]\nsize = 5\n[recipes]\nboiled = """\nx = 1\ny = 2, 3\n"""\n'
        )
        self.assertEqual(config["fruit"]["core"], {"size": 5})
        self.assertEqual(config["recipes"], {"raw": "eat()", "boiled": "\nx = 1\ny = 2, 3\n"})

    def test_mark_of_a_windows_editor_is_ignored(self):
        self.assertEqual(self.get(b"\xef\xbb\xbf[fruit]\r\ncount = 4\r\n")["fruit"]["count"], 4)


class WrongFileTests(ManagerTestCase):
    def test_wrong_values_name_section_setting_value_and_what_is_allowed(self):
        for line, allowed in [
            ("count = 11", "a whole number from 0 to 10"),
            ("count = -1", "a whole number from 0 to 10"),
            ("count = 1.5", "a whole number from 0 to 10"),
            ("count = many", "a whole number from 0 to 10"),
            ("count = ", "a whole number from 0 to 10"),
            ("count = 1, 2", "a whole number from 0 to 10"),
            ("weight = 0.4", "a number of kg, 0.5 or more"),
            ("weight = nan", "a number of kg"),
            ("weight = inf", "a number of kg"),
            ("colour = blue", "one of red, green"),
            ("ripe = maybe", "True or False"),
            ("name = a, b", "quote it"),
            ("space = 4 apples", "64 MiB"),
        ]:
            key, _, value = line.partition(" = ")
            self.assert_wrong(f"[fruit]\n{line}\n", f"[fruit] {key} = {value}", allowed)
        self.assert_wrong("[fruit]\n[[peel]]\nthick = 3", "[fruit] [[peel]] thick = 3", "True or")
        self.assert_wrong("[recipes]\nmine = a b", "[recipes] mine = a b", "invalid syntax")
        self.assert_wrong("[recipes]\nraw = f(a, b)", "comma")

    def test_unknown_names_come_with_advice(self):
        for text, words in [
            ("[fruits]", ("unknown section fruits", "did you mean fruit?")),
            ("[xyzzy]", ("unknown section xyzzy", "the sections here are fruit, recipes")),
            ("[fruit]\ncuont = 3", ("[fruit] unknown setting cuont", "did you mean count?")),
            ("[fruit]\nxyzzy = 3", ("xyzzy", "the settings here are count, weight")),
            ("count = 3", ("unknown setting count", "belongs in section [fruit]")),
            ("[fruit]\n[[peel]]\ncount = 3", ("belongs in section [fruit]",)),
            ("[fruit]\n[[core]]\nsise = 3", ("[fruit] [[core]]", "did you mean size?")),
            ("[fruit]\n[[peel]]\n[[[x]]]", ("unknown section x", "no sections are allowed here")),
        ]:
            self.assert_wrong(text, *words)

    def test_sections_and_settings_in_place_of_each_other(self):
        self.assert_wrong("fruit = 3", "fruit = 3: fruit is a section; write [fruit]")
        self.assert_wrong("[fruit]\npeel = 1", "[fruit] peel = 1", "write [[peel]]")
        self.assert_wrong("[fruit]\n[[count]]\nx = 1", "[fruit] [[count]]", "write count = value")
        self.assert_wrong("[recipes]\n[[x]]\ny = 1", "[recipes] [[x]]", "write x = value")

    def test_text_that_is_no_ini_file_names_the_line(self):
        for text in (
            "[fruit\n",
            "[fruit]\nnonsense\n",
            "[fruit]\n[[[x]]]\n",
            '[fruit]\nname = "x\n',
        ):
            self.assert_wrong(text, "line")
        self.assert_wrong("[fruit]\ncount = 1\ncount = 2\n", "line 3")
        self.assert_wrong("[fruit]\n[recipes]\n[fruit]\n", "line 3")
        self.assert_wrong(b"[fruit]\nname = \xff\n", "UTF-8")

    def test_all_problems_are_kept_and_the_first_is_shown(self):
        exception = self.assert_wrong("[fruit]\ncount = x\nripe = x\n[fruits]\n", "2 more problems")
        self.assertEqual(len(exception.problems), 3)
        self.assertNotIn("more", exception.problems[0])

    def test_file_that_others_can_write_is_refused_as_it_names_code(self):
        for mode in (0o620, 0o602, 0o666):
            self.path.write_text("")
            self.path.chmod(mode)
            exception = self.assertRaises(ConfigError, MANAGER.get_config, self.directory)
            self.assertIn(f"chmod go-w {shlex.quote(str(self.path.resolve()))}", str(exception))
        self.path.chmod(0o644)
        MANAGER.get_config(self.directory)

    def test_file_that_others_can_replace_is_refused(self):
        self.path.write_text("")
        self.directory.chmod(0o777)
        exception = self.assertRaises(ConfigError, MANAGER.get_config, self.directory)
        self.assertIn(f"chmod go-w {shlex.quote(str(self.directory))}", str(exception))
        self.path.unlink()
        MANAGER.get_config(self.directory)

    def test_file_of_another_user_is_refused(self):
        self.path.write_text("")
        try:
            os.chown(self.path, 12345, -1)
        except PermissionError:
            raise SkipTest("only root can give files away") from None
        exception = self.assertRaises(ConfigError, MANAGER.get_config, self.directory)
        self.assertIn(f"sudo chown {os.geteuid()} ", str(exception))

    def test_directory_in_its_place(self):
        self.path.mkdir()
        self.assertRaises(ConfigError, MANAGER.get_config, self.directory)

    def test_named_pipe_in_its_place(self):
        os.mkfifo(self.path)
        problem = self.assertRaises(ConfigError, MANAGER.get_config, self.directory)
        self.assertIn("named pipe", str(problem))
        with self.assertRaises(ConfigError):
            MANAGER.write_default_config_file(self.directory, overwrite=True)

    @settings(deadline=None)
    @given(
        st.text(max_size=60), st.sampled_from(["{}", "[fruit]\n{}", "[fruit]\nname = {}", "[{}]"])
    )
    def test_any_text_gives_settings_or_the_one_error(self, text, form):
        try:
            values = read_ini(form.format(text), Path("x.ini"), MANAGER.root)
        except ConfigError as exception:
            self.assertIn("x.ini", str(exception))
        else:
            self.assertLessEqual(set(values), {"fruit", "recipes"})


class WriteTests(ManagerTestCase):
    def write(self, *args, **kwargs):
        printed = []
        self.patch(sys, "stdout", type("Out", (), {"write": printed.append, "flush": lambda: None}))
        try:
            return self.manager.write_default_config_file(*args, **kwargs)
        finally:
            self.printed = "".join(printed)

    def test_written_file_changes_nothing_and_is_its_owners(self):
        path = self.write(self.directory / "new")
        self.assertEqual(stat.S_IMODE(os.stat(path).st_mode), 0o600)
        self.assertEqual(
            MANAGER.get_config(self.directory / "new"), MANAGER.get_config(self.directory)
        )
        self.assertIn(str(path), self.printed)

    def test_existing_file_is_kept_unless_overwrite_is_true(self):
        self.path.write_text("[fruit]\ncount = 5\n")
        exception = self.assertRaises(ConfigError, self.write, self.directory)
        self.assertIn(str(self.path.resolve()), str(exception))
        self.assertIn("overwrite=True", str(exception))
        self.assertEqual(MANAGER.get_config(self.directory)["fruit"]["count"], 5)
        self.write(self.directory, overwrite=True)
        self.assertEqual(MANAGER.get_config(self.directory)["fruit"]["count"], 3)

    def test_environment_decides_where_by_default(self):
        self.patch(os, "environ", {**os.environ, "IPYTHONDIR": str(self.directory)})
        self.assertEqual(self.write(), self.path.resolve())

    def test_directory_that_cannot_be_written_says_why(self):
        self.path.write_text("")
        exception = self.assertRaises(ConfigError, self.write, self.path / "below")
        self.assertIn("Not a directory", str(exception))


class DefaultFileTests(SynchronousTestCase):
    """The files that the three subpackages write, as a user would edit them."""

    def check(self, manager):
        text = manager.default_text()
        for line in text.splitlines():
            self.assertLessEqual(len(line), 120)
        body = text[text.index("\n[") :]
        uncommented = re.sub(r"(?m)^# ", "", body)
        given = read_ini(uncommented, Path("x.ini"), manager.root)
        without_examples = dict(self.flat(given))
        defaults = dict(self.flat(manager.root.defaults()))
        examples = {name for name in without_examples if name not in defaults}
        for name, value in defaults.items():
            if without_examples[name] != value:
                examples.add(name)
            self.assertIn(name[-1], text)
        self.assertEqual(examples, {name for name in examples if self.is_example(manager, name)})

    def flat(self, values, where=()):
        for name, value in values.items():
            if isinstance(value, dict):
                yield from self.flat(value, (*where, name))
            else:
                yield (*where, name), value

    def is_example(self, manager, name):
        section = manager.root
        for part in name[:-1]:
            known = next((one for one in section.sections if one.name == part), None)
            if known is None:
                return section.any_section.name == part
            section = known
        return section.option(name[-1]).example is not None

    def test_kernel_file_says_the_defaults(self):
        self.check(kernel_manager)

    def test_core_file_says_the_defaults(self):
        self.check(core_manager)

    def test_notebook_file_says_the_defaults(self):
        self.check(notebook_manager)

    def test_every_setting_is_explained(self):
        def options(section):
            yield from section.options
            for below in section.sections:
                yield from options(below)

        for manager in (kernel_manager, core_manager, notebook_manager):
            for option in options(manager.root):
                self.assertTrue(option.help.endswith("."), option.name)


class ImportTests(SynchronousTestCase):
    def test_defaults_need_neither_the_library_nor_the_network(self):
        code = (
            "import sys\n"
            "from ipython1.kernel.config import config_manager\n"
            "config_manager.get_config(sys.argv[1])\n"
            "print([m for m in ('configobj', 'twisted', 'foolscap') if m in sys.modules])"
        )
        printed = subprocess.run(
            [sys.executable, "-c", code, temporary_path(self)],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        self.assertEqual(printed.stdout.strip(), "[]")


class PathTests(SynchronousTestCase):
    def test_path_that_cannot_be_one(self):
        self.assertRaises(ConfigError, find_ipython_dir, "a\0b")
