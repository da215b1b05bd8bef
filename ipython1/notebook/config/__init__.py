"""The configuration of what a user's session shows: ``ipython1.notebook.ini`` in the IPython directory."""

from ipython1.config import ConfigManager, Option, Section, kinds

__all__ = ["config_manager"]

DISPLAY = Section(
    "display",
    "What terminals and notebooks show.",
    (
        Option("progress", kinds.BOOLEAN, True, "Show how far long waits have come."),
        Option(
            "live_output",
            kinds.BOOLEAN,
            True,
            "Show what engines print while their commands still run.",
        ),
        Option(
            "live_output_after",
            kinds.number(0, unit="seconds"),
            1.0,
            "Commands that take no longer than this show their output when they are done.",
        ),
    ),
)

config_manager = ConfigManager("ipython1.notebook", (DISPLAY,))
