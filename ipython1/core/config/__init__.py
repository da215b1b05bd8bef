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
            "Number of recent commands to keep, with their results, for get_result.",
        ),
        Option(
            "history_size",
            kinds.SIZE,
            64 * 1024**2,
            "Total size of the recent commands and results to keep; the oldest are dropped first.",
        ),
        Option(
            "output_size",
            kinds.size(1024),
            8 * 1024**2,
            "How much output to keep per command. If a command prints more, the middle is replaced by a "
            "marker.",
        ),
    ),
)

config_manager: ConfigManager = ConfigManager("ipython1.core", (INTERPRETER,))
