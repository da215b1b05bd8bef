"""The settings of clusters: what ``ipcluster`` and ``Cluster`` start, and how."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option, Section
from ipython1.kernel.config.adaptsettings import ADAPT, IDLE_TIMEOUT
from ipython1.kernel.config.kubernetessettings import KUBERNETES
from ipython1.kernel.config.logsettings import LOGGING
from ipython1.kernel.launchers import BUILT_IN, known_kind

_SECONDS = kinds.number(0, unit="seconds")
_LAUNCHER = kinds.Kind(
    "launcher(",
    f"{', '.join(BUILT_IN)}, or the name of a launcher that an installed package adds",
    known_kind,
)

CLUSTER = Section(
    "cluster",
    "The ipcluster command, and Cluster in ipython1.kernel.client.",
    (
        Option(
            "kind",
            _LAUNCHER,
            "local",
            "The launcher that starts engines, unless another one is given.",
        ),
        Option(
            "n",
            kinds.integer(0, 1_000_000),
            0,
            "The number of engines; 0 means one per core, or as many as the hosts have. 'ipcluster -n 0' starts none.",
        ),
        Option(
            "cwd",
            kinds.TEXT,
            "",
            "The working directory of the engines; empty means that of ipcluster, and the home directory on hosts that "
            "are reached over ssh.",
        ),
        Option(
            "python",
            kinds.TEXT,
            "",
            "The Python interpreter of the engines; empty means the one in use.",
        ),
        Option("start_timeout", _SECONDS, 60.0, "Seconds that engines may take to start."),
        IDLE_TIMEOUT,
        Option(
            "stop_timeout",
            _SECONDS,
            10.0,
            "Seconds that processes may take to stop before they are killed.",
        ),
        Option(
            "restart_controller",
            kinds.BOOLEAN,
            True,
            "Whether to restart a controller that died. If it does not start, it is tried again after pauses "
            "of up to 15 seconds, until the engines' reconnect_timeout is over.",
        ),
        Option(
            "restart_stuck",
            _SECONDS,
            0.0,
            "Seconds after which a controller that gives no sign of life is killed and restarted; 0 means never, "
            "because it may be busy or stopped on purpose.",
        ),
        Option(
            "restart_engines",
            kinds.integer(0, 1000),
            0,
            "How many times per minute to restart an engine that died, whatever killed it.",
        ),
        Option(
            "restore",
            kinds.CODE,
            "",
            "Code that each engine runs before it can be used, at its first start and after a restart.",
            example="\nimport numpy as np\n",
        ),
        Option(
            "engine_arguments",
            kinds.WORDS,
            (),
            "Additional options for ipengine.",
            example=("--connect-timeout=300",),
        ),
        *LOGGING,
    ),
    sections=(
        ADAPT,
        Section(
            "env",
            "Environment variables of the engines.",
            any_option=Option(
                "OMP_NUM_THREADS", kinds.TEXT, "", "Any variable, by its name.", example="1"
            ),
        ),
        Section(
            "mpi",
            "Engines started by mpiexec or mpirun.",
            (
                Option("command", kinds.WORDS, ("mpiexec",), "The command, with its options."),
                Option(
                    "use",
                    kinds.TEXT,
                    "",
                    "The setting in the top-level [mpi] section whose code sets up MPI in the engines.",
                ),
            ),
        ),
        Section(
            "ssh",
            "Engines on other hosts.",
            (
                Option("command", kinds.WORDS, ("ssh",), "The command, with its options."),
                Option(
                    "cluster_file", kinds.TEXT, "", "The file that says what runs on which host."
                ),
                Option(
                    "tunnel",
                    kinds.BOOLEAN,
                    False,
                    "Whether engines' connections to the controller go through ssh.",
                ),
                Option(
                    "hosts",
                    kinds.WORDS,
                    (),
                    "The hosts, instead of a file; HOST=N for N engines.",
                    example=("node1", "node2=4"),
                ),
            ),
        ),
        Section(
            "batch",
            "Engines started by a batch system.",
            (
                Option("template", kinds.TEXT, "", "A file that replaces the built-in job script."),
                Option("queue", kinds.TEXT, "", "The queue or partition."),
                Option("account", kinds.TEXT, "", "The account or project to charge."),
                Option("time", kinds.TEXT, "", "The time limit, in the batch system's format."),
                Option(
                    "options",
                    kinds.WORDS,
                    (),
                    "Additional options for the batch system, without the prefix (such as #SBATCH).",
                    example=("--mem=4G",),
                ),
                Option(
                    "setup",
                    kinds.WORDS,
                    (),
                    "Shell commands to run before the engine starts.",
                    example=("module load python",),
                ),
                Option(
                    "engines_per_job",
                    kinds.integer(1, 10_000),
                    1,
                    "How many engines each member of the job array starts.",
                ),
                Option(
                    "notice",
                    _SECONDS,
                    60.0,
                    "How many seconds before their time limit engines finish their work and leave; 0 means never.",
                ),
                Option(
                    "resubmit",
                    kinds.BOOLEAN,
                    True,
                    "Whether to submit engines again that the batch system has ended.",
                ),
                Option(
                    "python",
                    kinds.TEXT,
                    "",
                    "The Python interpreter on the nodes; empty means the one of the section [cluster].",
                ),
            ),
        ),
        KUBERNETES,
    ),
)
