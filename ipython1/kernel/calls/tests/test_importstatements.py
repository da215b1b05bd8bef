"""Reading the imports of a ``with`` block from its code."""

from __future__ import annotations

import sys
import textwrap
from typing import Any
from unittest import TestCase

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.calls.importstatements import imports_of_block


class Block:
    """Notes what is imported in it."""

    def __init__(self) -> None:
        self.found: list[str] = []

    def __enter__(self) -> Block:
        self.found = [str(each) for each in imports_of_block(sys._getframe(1))]
        return self

    def __exit__(self, *exc_info: Any) -> bool:
        # Nothing need exist.
        return True


def read(body: str, head: str = "with block:", **names: Any) -> list[str]:
    """The imports in a block with this body."""
    block = Block()
    source = f"{head}\n{textwrap.indent(textwrap.dedent(body).strip(), '    ')}\nafter = 1\n"
    exec(compile(source, "<no file>", "exec"), {"block": block, **names})
    return block.found


class ImportStatementsTests(TestCase):
    """Every form, also on Pythons that the other tests do not run on."""

    def test_every_form(self) -> None:
        for statement in (
            "import os",
            "import os.path",
            "import numpy as np",
            "import a.b as c",
            "import a.b.c.d as e",
            "import os.path as os",
            "from a import b",
            "from a.b import c as d, e, f as f2",
            "from a import *",
        ):
            self.assertEqual(read(statement), [statement])

    def test_several(self) -> None:
        found = read(
            """
            # A comment, and names that are all on one line.
            import a, b.c as d, e.f
            pass
            from g import (
                h,
                i as j,
            )
            import k; import l
            """
        )
        expected = "import a|import b.c as d|import e.f|from g import h, i as j|import k|import l"
        self.assertEqual("|".join(found), expected)

    def test_relative_ones_get_their_full_names(self) -> None:
        body = "from . import a\nfrom ..b import c\nfrom .d.e import f as g"
        self.assertEqual(
            read(body, __package__="pack.age"),
            ["from pack.age import a", "from pack.b import c", "from pack.age.d.e import f as g"],
        )
        self.assertRaises(ClientError, read, body, __package__="")

    def test_wherever_names_go(self) -> None:
        block = Block()
        source = """
def function():
    global g
    with block as bound:
        import g, local.sub
        import inner as cell
    return lambda: cell
try:
    function()
except NameError:
    pass
class Body:
    with block:
        import attribute as other
        names.append(list(block.found))
"""
        names: list[list[str]] = []
        with self.assertRaises(ClientError):
            exec(source, {"block": block, "names": names})
        self.assertEqual(block.found, ["import g", "import local.sub", "import inner as cell"])

    def test_with_other_things_around(self) -> None:
        class Other:
            def __enter__(self) -> int:
                return 1

            def __exit__(self, *exc_info: Any) -> None:
                pass

        self.assertEqual(
            read("import a", "with other as x, block as y:", other=Other()), ["import a"]
        )
        self.assertRaises(
            ClientError, read, "import a", "with block as x, other as y:", other=Other()
        )

    def test_anything_else_is_refused_before_anything_happens(self) -> None:
        for body in (
            "x = 1",
            "import a\nx = 1",
            "import a\nprint(a)",
            "x = None\nimport a",
            "if True is not x:\n    import a",
            "try:\n    import a\nexcept ImportError:\n    pass",
            "for x in ():\n    import a",
            "f(None, None, None)",
            "None",
            "pass",
        ):
            with self.assertRaises(ClientError, msg=body):
                read(body)

    def test_the_end_of_the_block_may_leave_it(self) -> None:
        block = Block()
        exec(
            "def f():\n    with block:\n        import a\n        return 5\nf()\n"
            "for _ in (1, 2):\n    with block:\n        import b\n        continue\n",
            {"block": block},
        )
        self.assertEqual(block.found, ["import b"])
