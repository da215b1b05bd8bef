"""Pushing, pulling and forgetting names."""

from __future__ import annotations

import math

from ipython1.core.tests.support import SessionCase


class NamespaceTests(SessionCase):
    def test_push_and_pull(self) -> None:
        self.session.push({"a": 1, "b": [2]})
        self.assertEqual(self.session.pull("a"), 1)
        self.assertEqual(self.session.pull(("b", "a")), [[2], 1])
        self.assertEqual(self.session.pull(["a"]), [1])
        self.assertEqual(self.session.pull([]), [])
        self.assertEqual(self.shown("a + b[0]"), "3")

    def test_missing_names(self) -> None:
        self.session.push({"a": 1})
        for keys in ("zzz", ["a", "zzz"]):
            error = self.assertRaises(NameError, self.session.pull, keys)
            self.assertEqual(str(error), "name 'zzz' is not defined")
        self.assertRaises(NameError, self.session.pull, "print")
        self.assertRaises(NameError, self.session.pull_function, "zzz")

    def test_bad_names_change_nothing(self) -> None:
        self.assertRaises(TypeError, self.session.push, {"good": 1, 2: 2})
        self.assertRaises(TypeError, self.session.push, [("a", 1)])
        self.assertRaises(TypeError, self.session.pull, 3)
        self.assertRaises(TypeError, self.session.pull, [3])
        self.assertEqual(self.session.keys(), [])

    def test_functions(self) -> None:
        source = "def scaled(x, factor=2, *, plus=0) -> int:\n    'Doc.'\n    return base * x * factor + plus"
        exec(source, self.session.user_ns)
        self.session.push_function({"scaled": self.session.user_ns["scaled"]})
        self.session.push({"base": 10})
        self.assertEqual(self.shown("scaled(3), scaled(3, 4, plus=1)"), "(60, 121)")
        pulled = self.session.pull_function("scaled")
        self.assertEqual(
            (pulled.__doc__, pulled.__name__, pulled.__annotations__),
            ("Doc.", "scaled", {"return": "int"}),
        )
        self.assertEqual(self.session.pull_function(["scaled"]), [pulled])

    def test_functions_of_modules_keep_their_own(self) -> None:
        import textwrap

        self.session.push_function({"dedent": textwrap.dedent, "sqrt": math.sqrt})
        self.assertIs(self.session.pull_function("dedent"), textwrap.dedent)
        self.assertEqual(self.shown("dedent('  a'), sqrt(4)"), "('a', 2.0)")

    def test_what_is_no_function(self) -> None:
        self.session.push({"number": 3, "f": len})
        error = self.assertRaises(TypeError, self.session.pull_function, "number")
        self.assertEqual(str(error), "'number' is an int, not a function")
        self.assertRaises(TypeError, self.session.pull_function, ["f", "number"])
        self.assertRaises(TypeError, self.session.push_function, {"g": len, "h": 4})
        self.assertEqual(self.session.keys(), ["f", "number"])

    def test_keys_are_the_users(self) -> None:
        self.assertEqual(self.session.keys(), [])
        self.run_ok("import math\nb = 1\n_private = 2\nB = 3\nb")
        self.session.push({"a": 4})
        self.assertEqual(self.session.keys(), ["B", "a", "b", "math"])
        self.run_ok("open = 'mine'")
        self.assertIn("open", self.session.keys())

    def test_reset(self) -> None:
        self.run_ok("a = 1\nclass C: pass\na")
        self.run_bad("1/0", "ZeroDivisionError")
        self.run_ok("from __future__ import annotations")
        self.session.reset()
        self.assertEqual(self.session.keys(), [])
        self.assertEqual(self.shown("_, __, Out, In[1]"), "('', '', {}, '')")
        self.run_bad("a", "NameError")
        self.run_bad("_1", "NameError")
        self.assertEqual(self.shown("def f(x: int): pass\nf.__annotations__"), "{'x': int}")
        self.assertEqual(
            self.shown(
                "class D: pass\nimport pickle; pickle.loads(pickle.dumps(D())).__class__ is D"
            ),
            "True",
        )
        self.assertEqual(
            self.run_ok("display(1); get_ipython(); __name__").result, {"text/plain": "'__main__'"}
        )

    def test_reset_keeps_count_and_results(self) -> None:
        self.run_ok("'one'")
        self.session.reset()
        self.assertEqual(self.run_ok("2").number, 2)
        self.assertEqual(self.session.get_result(1).result, {"text/plain": "'one'"})

    def test_reset_frees_objects(self) -> None:
        self.run_ok(
            "import weakref\nclass Big: pass\nbig = Big()\nkept = {'ref': weakref.ref(big)}\nbig"
        )
        reference = self.session.pull("kept")["ref"]
        self.session.reset()
        self.assertIsNone(reference())

    def test_reset_magic(self) -> None:
        self.run_ok("a = 1")
        self.run_ok("%reset -f")
        self.assertEqual(self.session.keys(), [])
        self.assertEqual(self.run_ok("1").number, 3)
