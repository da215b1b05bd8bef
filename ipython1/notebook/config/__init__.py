"""The configuration of what a user's session displays: ``ipython1.notebook.ini`` in the IPython directory."""

from ipython1.config import ConfigManager, Option, Section, kinds

__all__ = ["config_manager"]

DISPLAY = Section(
    "display",
    "What terminals and notebooks show.",
    (
        Option("progress", kinds.BOOLEAN, True, "Show a progress bar during long waits."),
        Option(
            "live_output",
            kinds.BOOLEAN,
            True,
            "Show what engines print while their commands are still running.",
        ),
        Option(
            "live_output_after",
            kinds.number(0, unit="seconds"),
            1.0,
            "How long a command must run before its output is shown live; the output of shorter commands "
            "is shown when they finish.",
        ),
    ),
)

config_manager: ConfigManager = ConfigManager("ipython1.notebook", (DISPLAY,))
