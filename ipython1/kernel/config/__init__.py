"""The settings in ``ipython1.kernel.ini``."""

from ipython1.config import ConfigManager
from ipython1.kernel.config.settings import SETTINGS

__all__ = ["config_manager"]

config_manager: ConfigManager = ConfigManager("ipython1.kernel", SETTINGS)
