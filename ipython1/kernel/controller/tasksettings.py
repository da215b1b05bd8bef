"""The settings of the task interface, as the ini file gives them, and its scheduler."""

from __future__ import annotations

from typing import Any

from twisted.python.reflect import namedAny

from ipython1.kernel.basics.error import ClientError
from ipython1.kernel.basics.taskinterfaces import IScheduler
from ipython1.kernel.controller.config import TaskConfig
from ipython1.kernel.controller.controllerservice import ControllerService
from ipython1.kernel.controller.scheduling.prefetch import Prefetch
from ipython1.kernel.controller.scheduling.seams import TaskSettings


def settings_from(config: TaskConfig | None, controller: ControllerService) -> TaskSettings:
    """The machine's settings, as the ini file gives them."""
    journal = controller.journal
    if config is None:
        return TaskSettings(epoch=journal.epoch, journal=journal.keeps)
    return TaskSettings(
        max_deaths=config.kill_limit,
        grace=config.abort_grace,
        keep_size=config.result_size,
        keep_age=config.result_age,
        unrunnable_after=config.unrunnable_after,
        epoch=journal.epoch,
        journal=journal.keeps,
        prefetch=Prefetch(
            ahead=config.prefetch_seconds,
            fewest=config.prefetch_min,
            most=max(config.prefetch_min, config.prefetch_max),
        ),
    )


def make_scheduler(name: str) -> Any:
    """A scheduler of the class of this dotted name.

    :raises ClientError: when there is no such class, or it is no scheduler.
    """
    try:
        scheduler = namedAny(name)()
    except Exception as problem:
        raise ClientError(
            f"the scheduler {name} named in ipython1.kernel.ini cannot be created: "
            f"{type(problem).__name__}: {problem}"
        ) from None
    if not IScheduler.providedBy(scheduler):
        raise ClientError(
            f"{name}, which ipython1.kernel.ini names as the scheduler, does not provide "
            "ipython1.kernel.task.IScheduler"
        )
    return scheduler
