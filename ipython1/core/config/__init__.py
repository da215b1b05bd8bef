"""The configuration of an engine's session: ``ipython1.core.ini`` in the IPython directory."""

from ipython1.config import ConfigManager, Option, Section, kinds

__all__ = ["config_manager"]

INTERPRETER = Section(
    "interpreter",
    "The session in which an engine runs code.",
    (
        Option(
            "history_length",
            kinds.integer(1, 1_000_000),
            1000,
            "So many of the latest commands are kept, with their results, for get_result.",
        ),
        Option(
            "history_size",
            kinds.SIZE,
            64 * 1024**2,
            "The latest commands are kept as long as they and their results are no larger than this.",
        ),
        Option(
            "output_size",
            kinds.size(1024),
            8 * 1024**2,
            "So much of what one command prints is kept; of more, the middle is cut out, with a mark.",
        ),
    ),
)

config_manager = ConfigManager("ipython1.core", (INTERPRETER,))
