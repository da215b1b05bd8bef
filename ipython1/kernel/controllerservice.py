"""The controller: a registry of engines, on which the client interfaces are built."""

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
