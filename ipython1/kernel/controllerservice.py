"""The controller: a registry of engines that client interfaces are built upon."""

from ipython1.kernel.controller.controllerservice import (
    ControllerService,
    IControllerBase,
    IControllerCore,
)

__all__ = [
    "ControllerService",
    "IControllerBase",
    "IControllerCore",
]
