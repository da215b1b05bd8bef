"""What pyproject.toml cannot say: the package index shows README.txt, with the address of its picture."""

from __future__ import annotations

from pathlib import Path

from setuptools import setup

PICTURES = "docs/source/pictures/"
ADDRESS = f"https://raw.githubusercontent.com/ipython1/ipython1/main/{PICTURES}"

setup(
    long_description=Path(__file__)
    .with_name("README.txt")
    .read_text(encoding="utf-8")
    .replace(f".. image:: {PICTURES}", f".. image:: {ADDRESS}"),
    long_description_content_type="text/x-rst",
)
