"""Engines on this host, each with its own working directory."""

import tempfile
from dataclasses import replace

from ipython1.kernel.launchers.local import LocalEngines
from ipython1.kernel.launchers.programs import CONTROLLER_KEY, engine_spec


class ScratchEngines(LocalEngines):
    """``ipcluster scratch -n 4``."""

    kind = "scratch"

    def start_one(self, engine_id):
        context = self.context
        spec = engine_spec(
            context.config,
            engine_id,
            context.files.engine_log(engine_id),
            after=CONTROLLER_KEY if self.controller_is_coming() else "",
            cwd=tempfile.mkdtemp(prefix=f"engine-{engine_id}-"),
        )
        context.supervisor.add(replace(spec, grace=5.0))
