"""What :mod:`~ipython1.kernel.tasks.encoder` finds out of tasks and their parts."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any, Final

from ipython1.checks import check_settable
from ipython1.core.texts import clean_text, type_name
from ipython1.kernel.objects.taskchecks import check_push, pull_names
from ipython1.kernel.objects.taskcodec import Section, object_section
from ipython1.kernel.objects.taskobjects import BaseTask, MapTask, StringTask
from ipython1.kernel.objects.taskoptions import options_of

_STEPS: Final = ("pre_task", "submit_task", "post_task")


def few_words(function: Any) -> str:
    """Return the name of a function, or that of the type of another callable object."""
    name = getattr(function, "__qualname__", None)
    return name if isinstance(name, str) else type_name(function)


def first_line(text: str) -> str:
    lines = text.strip().splitlines()
    return clean_text(lines[0].strip()) if lines else ""


def what_runs_like(kind: type) -> type:
    """Return the built-in class of tasks that does the same on the engine as ``kind``, or ``kind`` itself."""
    for base in (StringTask, MapTask):
        if issubclass(kind, base) and all(
            getattr(kind, name) is getattr(base, name) for name in _STEPS
        ):
            return base
    return kind


def packed_push(task: Any) -> Section:
    push = task.push
    if not push:
        return b""
    push = dict(check_push(push))
    for name in pull_names(list(push)):
        check_settable(name)
    return object_section(push)


def without_client_parts(task: Any) -> Any:
    """Return a copy of a task object with only what the engine needs."""
    if not isinstance(task, BaseTask):
        return task
    shipped = copy.copy(task)
    bare = replace(
        options_of(task), recovery_task=None, depend=None, after=(), follow=(), targets=None
    )
    return shipped.with_options(bare)
