"""Engines as the controller and its adapters see them, and ``EngineService``, an engine's own side.

Extensions of the controller import this module, so ``EngineService``, which pickles, is loaded only on first use.
"""

from typing import TYPE_CHECKING

from ipython1.kernel.basics.engineinterfaces import (
    IEngineBase,
    IEngineCore,
    IEngineProperties,
    IEngineSerialized,
    ITaskEngine,
)
from ipython1.kernel.basics.naming import lazy_names as _lazy_names
from ipython1.kernel.controller.command import Command, Outcome
from ipython1.kernel.controller.commanddata import CommandData
from ipython1.kernel.controller.commandqueue import CommandQueue
from ipython1.kernel.controller.queuedengine import IEngineQueued, QueuedEngine

if TYPE_CHECKING:
    from ipython1.kernel.engine.service import EngineService

__all__ = [
    "Command",
    "CommandData",
    "CommandQueue",
    "EngineService",
    "IEngineBase",
    "IEngineCore",
    "IEngineProperties",
    "IEngineQueued",
    "IEngineSerialized",
    "ITaskEngine",
    "Outcome",
    "QueuedEngine",
]

if not TYPE_CHECKING:
    __getattr__ = _lazy_names(__name__, {"EngineService": "ipython1.kernel.engine.service"})
