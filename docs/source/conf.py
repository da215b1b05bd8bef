"""How Sphinx builds the documentation: ``sphinx-build -W -n docs/source docs/_build``."""

from __future__ import annotations

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE / "_ext"), str(HERE.parents[1])]

import ipython1  # noqa: E402

project = "ipython1"
copyright = "the ipython1 developers"
version = release = ipython1.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx_copybutton",
    "drawings",
    "from_the_code",
    "links",
    "literals",
    "notebooks",
]
source_suffix = {".txt": "restructuredtext"}
root_doc = "index"
exclude_patterns = ["benchmarks"]

html_theme = "furo"
html_title = f"{project} {version}"
html_static_path = ["_static"]
html_css_files = ["ipython1.css"]
html_copy_source = False
html_use_index = True

toc_object_entries_show_parents = "hide"

default_role = None
highlight_language = "none"

# Keep signatures short; the docstrings describe parameters and results.
autodoc_typehints = "none"
# What the pages describe and need not have.
autodoc_mock_imports = ["joblib"]
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
# Names in docstrings that are not part of the public reference.
nitpick_ignore_regex = [
    (r"py:.*", r"(builtins\.)?[a-z]+"),
    (
        r"py:.*",
        r"(twisted|foolscap|zope|concurrent|collections|asyncio|numpy|IPython|configobj)\..*",
    ),
]
nitpicky = True
