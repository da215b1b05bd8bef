"""Imports here and on engines, modules and files for engines."""

# ruff: noqa: E401, F401, F403, I001 (this tests the imports)

from __future__ import annotations

import atexit
import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ipython1.kernel import client

mec = client.MultiEngineClient()
FOLDER = Path(tempfile.mkdtemp(prefix="ipython1-modules-test-"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


@contextlib.contextmanager
def raises(kind: type[BaseException], *texts: str) -> Iterator[None]:
    try:
        yield
    except kind as problem:
        for text in texts:
            assert text in str(problem), f"{text!r} is not in {problem}"
    else:
        raise AssertionError(f"no {kind.__name__} was raised")


def printed(source: str, targets: Any = None) -> list[str]:
    return [result["stdout"].strip() for result in mec.execute(source, targets=targets)]


def write(name: str, text: str) -> None:
    path = FOLDER / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


# -- imports here and there

numbers = [result["number"] for result in mec.execute("pass")]
shown = io.StringIO()
with contextlib.redirect_stdout(shown), mec.sync_imports():
    import decimal, json.decoder as jd
    import os.path
    import xml.etree.ElementTree as et
    from collections import OrderedDict as Ordered, deque
    from fractions import *
assert shown.getvalue().splitlines() == [
    "import decimal  # also on engines 0-3",
    "import json.decoder as jd  # also on engines 0-3",
    "import os.path  # also on engines 0-3",
    "import xml.etree.ElementTree as et  # also on engines 0-3",
    "from collections import OrderedDict as Ordered, deque  # also on engines 0-3",
    "from fractions import *  # also on engines 0-3",
], shown.getvalue()
here = f"{decimal.__name__} {jd.__name__} {os.path.__name__} {et.__name__} {Ordered.__name__} {deque.__name__}"
there = (
    "decimal.__name__, jd.__name__, os.path.__name__, et.__name__, Ordered.__name__, deque.__name__"
)
assert printed(f"print({there}); Fraction") == [here] * 4
assert [result["number"] for result in mec.execute("pass")] == [number + 2 for number in numbers]


def in_a_function() -> Any:
    with mec.sync_imports(targets=[1, 2], quiet=True):
        import calendar as almanac

    return almanac.__name__


assert in_a_function() == "calendar"
assert printed("print('almanac' in globals())") == ["False", "True", "True", "False"]

# Without source code.
exec("with mec.sync_imports(quiet=True):\n    import textwrap as tw\nassert tw", {"mec": mec})
assert printed("print(tw.__name__)") == ["textwrap"] * 4

with raises(client.ClientError, "may contain only import statements"):
    with mec.sync_imports():
        import string

        value = 3
assert "string" not in globals() and "value" not in globals()
with raises(client.ClientError, "at least one"):
    with mec.sync_imports():
        pass
with raises(ModuleNotFoundError, "no_such_module"):
    with mec.sync_imports(quiet=True):
        import no_such_module
write("only_here.py", "value = 5\n")
sys.path.insert(0, str(FOLDER))
with raises(
    client.CompositeError,
    "[0:sync_imports]: ModuleNotFoundError: No module named 'only_here'",
    "[3:sync_imports]: ModuleNotFoundError: No module named 'only_here'",
):
    with mec.sync_imports(quiet=True):
        import only_here

# -- modules that engines lack

assert mec.push_module(only_here) == [True] * 4
assert mec.push_module("only_here") == [False] * 4
assert printed("import only_here; print(only_here.value)") == ["5"] * 4
assert mec.map(lambda n: only_here.value + n, range(4)) == [5, 6, 7, 8]

write("pack/__init__.py", "from .a import f\nfrom . import sub\n")
write("pack/a.py", "from .b import BASE\ndef f():\n    return BASE\n")
write("pack/b.py", "BASE = 1\n")
write("pack/sub/__init__.py", "from ..a import f\n")
write("pack/sub/data.txt", "some data")
write("pack/__pycache__/junk.pyc", "junk")
pending = mec.push_module(FOLDER / "pack" / "sub" / "__init__.py", targets=[0, 1], block=False)
assert pending.get_result() == [True, True]
assert mec.push_module(FOLDER / "pack") == [False, False, True, True]
with mec.sync_imports(quiet=True):
    import pack.sub as part
    import pack.a
look = "print(pack.a.f(), part.f(), open(part.__file__.replace('__init__.py', 'data.txt')).read())"
assert printed(look) == ["1 1 some data"] * 4
assert printed("import inspect; print(inspect.getsource(pack.a.f).split()[-1])") == ["BASE"] * 4

# A new version replaces the previous one, even where that is in use.
write("pack/b.py", "BASE = 2\n")
assert mec.push_module("pack") == [True] * 4
assert printed(look) == ["2 2 some data"] * 4
write("pack/b.py", "BASE = 3 +\n")
for _ in range(2):
    with raises(client.CompositeError, "[2:push_module]: SyntaxError"):
        mec.push_module("pack")
write("pack/b.py", "BASE = 4\n")
assert mec.push_module("pack") == [True] * 4
assert printed(look) == ["4 4 some data"] * 4

for wrong, kind, text in (
    (sys, ValueError, "'sys' is built into Python"),
    ("json", ValueError, "standard library"),
    (sys.modules["__main__"], ValueError, "__main__"),
    ("numpy", TypeError, "compiled"),
    ("nothing.at.all", ModuleNotFoundError, "'nothing.at.all'"),
    (FOLDER / "missing.py", ModuleNotFoundError, "missing.py"),
    (FOLDER / "pack" / "sub" / "data.txt", ValueError, "push_files"),
    (3, TypeError, "int"),
    (type(sys)("from_nowhere"), ValueError, "has no file"),
    ("ipython1", ValueError, "the engines run it"),
):
    with raises(kind, text):
        mec.push_module(wrong)
write("ext.abi3.so", "")
with raises(TypeError, "C extension"):
    mec.push_module(FOLDER / "ext.abi3.so")

# -- files

there_folder = FOLDER / "there"
paths = mec.push_files(
    [FOLDER / "pack", str(FOLDER / "only_here.py")], directory=there_folder, targets=[0, 3]
)
assert len(paths) == 2 and paths[0] == paths[1]
names = sorted(str(Path(path).relative_to(there_folder)) for path in paths[0])
assert "only_here.py" in names and "pack/sub/data.txt" in names, names
assert (there_folder / "pack/sub/data.txt").read_text() == "some data"
assert not list(there_folder.rglob(".*")), "parts of files were left"
with raises(FileNotFoundError):
    mec.push_files(FOLDER / "missing.py")

# The files end with the engines that received them.
sources = {Path(text) for text in printed("print(only_here.__file__)")}
assert len(sources) == 4 and all(path.exists() for path in sources)
mec.kill(targets=[0])
# The test looks for these after the cluster has ended.
print("\n".join(str(path) for path in sorted(sources)))
print("engines have the modules they need")
