"""Counts the words of many files on a cluster; the code that the examples of tests are about."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from ipython1.kernel.client import MapTask, MultiEngineClient, TaskClient


def words_of(text: str) -> Counter[str]:
    return Counter(text.lower().split())


def count_texts(mec: MultiEngineClient, texts: Iterable[str]) -> Counter[str]:
    """Count the words of texts, on all engines."""
    return sum(mec.map(words_of, list(texts)), Counter())


def read(path: str) -> str:
    return Path(path).read_text()


def words_of_file(path: str) -> Counter[str]:
    return words_of(read(path))


def count_files(tc: TaskClient, paths: Iterable[str], retries: int = 2) -> Counter[str]:
    """Count the words of files, a task for each; a file that cannot be read is tried again."""
    ids = tc.run_many([MapTask(words_of_file, [path], retries=retries) for path in paths])
    tc.barrier(ids)
    return sum((tc.get_task_result(each).result for each in ids), Counter())
