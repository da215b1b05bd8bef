"""Configuration from ini files, one per subpackage.

A subpackage describes its settings in its ``config`` package and builds a :class:`ConfigManager`
from them there::

    from ipython1.kernel.config import config_manager
    config_manager.write_default_config_file()
"""

from ipython1.config import kinds
from ipython1.config.error import ConfigError
from ipython1.config.manager import ConfigManager
from ipython1.config.schema import Option, Section

__all__ = ["ConfigError", "ConfigManager", "Option", "Section", "kinds"]
