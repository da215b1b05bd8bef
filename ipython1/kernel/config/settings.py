"""What can be set in ``ipython1.kernel.ini``."""

from __future__ import annotations

from dataclasses import replace

from ipython1.config import kinds
from ipython1.config.schema import Option, Section
from ipython1.kernel.host.furl import check_host, check_location
from ipython1.kernel.launchers import BUILT_IN, known_kind

LOG_LEVELS = ("debug", "info", "warn", "error", "critical")

GIB = 1024**3
MIB = 1024**2

_PORT = kinds.integer(0, 65535)
_ADDRESS = kinds.Kind(
    "address(",
    "nothing, an IP address or a host name",
    lambda value: "" if value == "" else check_host(value),
)
_LOCATION = kinds.Kind(
    "location(",
    "nothing, HOST or HOST:PORT, or several in one pair of quotes with commas between them",
    check_location,
)
_SECONDS = kinds.number(0, unit="seconds")
_LAUNCHER = kinds.Kind(
    "launcher(",
    f"{', '.join(BUILT_IN)}, or the name of a launcher that an installed package adds",
    known_kind,
)

_LOGGING = (
    Option(
        "log_level",
        kinds.choice(*LOG_LEVELS),
        "info",
        "The least severe messages that go into the log file.",
    ),
    Option(
        "log_size",
        kinds.SIZE,
        5 * MIB,
        "The size at which a log file is put aside and a new one begun; the last three are kept.",
    ),
)

_INTERFACE = (
    Option(
        "controller_interface",
        kinds.OPTIONAL_DOTTED_NAME,
        "",
        "The interface that a controller is adapted to.",
    ),
    Option(
        "fc_interface",
        kinds.OPTIONAL_DOTTED_NAME,
        "",
        "The interface that this is adapted to in turn, so that Foolscap can make it available.",
    ),
    Option(
        "furl_file",
        kinds.TEXT,
        "",
        "The name of its FURL file in the security directory; nothing stands for ipcontroller-NAME.furl.",
    ),
    Option("enabled", kinds.BOOLEAN, True, "Whether controllers offer it."),
)

_EXAMPLES = {
    "controller_interface": "mypackage.IMine",
    "fc_interface": "mypackage.IFCMine",
    "furl_file": "ipcontroller-mine.furl",
}


def _interface(name: str, controller: str, face: str, furl_file: str, help: str) -> Section:
    values = {"controller_interface": controller, "fc_interface": face, "furl_file": furl_file}
    options = tuple(
        replace(option, default=values.get(option.name, option.default)) for option in _INTERFACE
    )
    return Section(name, help, options)


_INTERFACES = Section(
    "controller_interfaces",
    "The interfaces that a controller offers to clients. Each gets a FURL file of its own.",
    sections=(
        _interface(
            "multiengine",
            "ipython1.kernel.multiengine.IMultiEngine",
            "ipython1.kernel.multienginefc.IFCMultiEngine",
            "ipcontroller-mec.furl",
            "Engines that are addressed explicitly.",
        ),
        _interface(
            "task",
            "ipython1.kernel.task.ITaskController",
            "ipython1.kernel.taskfc.IFCTaskController",
            "ipcontroller-tc.furl",
            "Tasks that the engines share out among themselves.",
        ),
    ),
    any_section=Section(
        "myinterface",
        "An interface of your own is added as a section with a name of your choice. The modules of both "
        "names are imported by the controller and must register the adapters.",
        tuple(replace(option, example=_EXAMPLES.get(option.name)) for option in _INTERFACE),
    ),
)

CONTROLLER = Section(
    "controller",
    "The ipcontroller command.",
    (
        Option(
            "client_ip",
            _ADDRESS,
            "",
            "The address to listen on; nothing stands for all of this host's addresses, 127.0.0.1 for "
            "clients and engines on this host only.",
        ),
        Option("client_port", _PORT, 0, "The port to listen on; 0 is any free port."),
        Option(
            "client_location",
            _LOCATION,
            "",
            "Where clients find the controller. Nothing stands for this host's address.",
        ),
        Option(
            "client_cert_file",
            kinds.TEXT,
            "",
            "The key file of the clients' listener; nothing stands for ipcontroller.pem in the security "
            "directory. It is made when it is missing.",
        ),
        Option(
            "engine_ip",
            _ADDRESS,
            "",
            "As client_ip, for engines. When engine_ip, engine_port and engine_cert_file are all left "
            "alone, one port serves engines and clients.",
        ),
        Option("engine_port", _PORT, 0, "As client_port, for engines."),
        Option("engine_location", _LOCATION, "", "As client_location, for engines."),
        Option("engine_cert_file", kinds.TEXT, "", "As client_cert_file, for engines."),
        Option(
            "reuse_furls",
            kinds.BOOLEAN,
            False,
            "Keep the FURLs of the last run, so that copies of the FURL files on other hosts stay good.",
        ),
        *_LOGGING,
        Option(
            "max_message_size",
            kinds.SIZE,
            4 * GIB,
            "The largest object that may be sent through the controller; a larger one gives "
            "MessageSizeError.",
        ),
    ),
    sections=(_INTERFACES,),
)

TASK = Section(
    "task",
    "The Task interface of the controller.",
    (
        Option(
            "scheduler",
            kinds.DOTTED_NAME,
            "ipython1.kernel.task.FIFOScheduler",
            "The class that decides which task is next. There are FIFOScheduler, LIFOScheduler and "
            "PriorityScheduler in ipython1.kernel.task; a class of your own is imported by the controller.",
        ),
        Option(
            "kill_limit",
            kinds.integer(1, 1000),
            3,
            "A task during which so many engines died is not tried again.",
        ),
        Option(
            "abort_grace",
            _SECONDS,
            5.0,
            "For so many seconds an aborted task may go on before its engine is killed.",
        ),
        Option(
            "prefetch_seconds",
            kinds.number(0.0001, 60, unit="seconds"),
            0.010,
            "About how much work an engine is given ahead.",
        ),
        Option(
            "prefetch_min",
            kinds.integer(1, 65536),
            2,
            "At least so many tasks are given to an engine ahead.",
        ),
        Option(
            "prefetch_max",
            kinds.integer(1, 65536),
            4096,
            "At most so many tasks are given to an engine ahead.",
        ),
        Option(
            "result_age",
            _SECONDS,
            86400.0,
            "Results that their client has are kept for others for so many seconds.",
        ),
        Option(
            "result_size",
            kinds.SIZE,
            64 * MIB,
            "Results that their client has are kept for others up to this size, oldest first out.",
        ),
    ),
)

ENGINE = Section(
    "engine",
    "The ipengine command.",
    (
        Option(
            "furl_file",
            kinds.TEXT,
            "",
            "The FURL file for engines; nothing stands for ipcontroller-engine.furl in the security "
            "directory.",
        ),
        Option(
            "mpi",
            kinds.TEXT,
            "",
            "The name of the setting of the [mpi] section whose code sets MPI up; nothing stands for "
            "no MPI.",
        ),
        Option(
            "connect_timeout",
            kinds.number(0, 7 * 86400, unit="seconds"),
            60.0,
            "For so long an engine waits for the FURL file and for the controller to answer.",
        ),
        Option(
            "reconnect_timeout",
            kinds.number(0, unit="seconds"),
            600.0,
            "For so long an engine that lost its controller tries to find it again before it ends.",
        ),
        *_LOGGING,
    ),
)

_MPI4PY = """
from mpi4py import MPI as mpi
mpi.size = mpi.COMM_WORLD.Get_size()
mpi.rank = mpi.COMM_WORLD.Get_rank()
"""

_PYTRILINOS = """
from types import SimpleNamespace
from PyTrilinos import Epetra
_communicator = Epetra.PyComm()
mpi = SimpleNamespace(rank=_communicator.MyPID(), size=_communicator.NumProc())
"""

MPI = Section(
    "mpi",
    "Code that sets MPI up in an engine's namespace before anything else runs there, by names for "
    "'ipengine --mpi=NAME'. It must define mpi with mpi.rank and mpi.size.",
    (
        Option("mpi4py", kinds.CODE, _MPI4PY, "For mpi4py."),
        Option("pytrilinos", kinds.CODE, _PYTRILINOS, "For PyTrilinos."),
    ),
    any_option=Option(
        "myown",
        kinds.CODE,
        "",
        "Code of your own is added under a name of your choice.",
        example="\nfrom mypackage import mpi\n",
    ),
)

CLUSTER = Section(
    "cluster",
    "The ipcluster command, and Cluster in ipython1.kernel.client.",
    (
        Option(
            "kind",
            _LAUNCHER,
            "local",
            "How engines are started when nothing is said: local, mpiexec, ssh, slurm, sge, pbs, lsf, or "
            "the name of a launcher that a package of yours adds.",
        ),
        Option(
            "n", kinds.integer(0, 1_000_000), 0, "The number of engines; 0 is one for each core."
        ),
        Option("start_timeout", _SECONDS, 60.0, "For so many seconds engines may take to come up."),
        Option(
            "stop_timeout",
            _SECONDS,
            10.0,
            "For so many seconds processes may take to end before they are killed.",
        ),
        Option(
            "restart_controller",
            kinds.integer(0, 1000),
            5,
            "So often within a minute a controller that died is started again.",
        ),
        Option(
            "restart_engines",
            kinds.integer(0, 1000),
            0,
            "So often within a minute an engine that died is started again.",
        ),
        Option(
            "engine_arguments",
            kinds.WORDS,
            (),
            "Further options for ipengine.",
            example=("--connect-timeout=300",),
        ),
        *_LOGGING,
    ),
    sections=(
        Section(
            "mpi",
            "Engines that are started by mpiexec or mpirun.",
            (
                Option(
                    "command", kinds.WORDS, ("mpiexec",), "The command, with options of its own."
                ),
                Option(
                    "use",
                    kinds.TEXT,
                    "",
                    "The name of the setting of the [mpi] section whose code sets MPI up in the engines.",
                ),
            ),
        ),
        Section(
            "ssh",
            "Engines on other hosts.",
            (
                Option("command", kinds.WORDS, ("ssh",), "The command, with options of its own."),
                Option("cluster_file", kinds.TEXT, "", "The file that says which host runs what."),
            ),
        ),
        Section(
            "batch",
            "Engines that are started by a batch system.",
            (
                Option("template", kinds.TEXT, "", "A file that replaces the built-in job script."),
                Option("queue", kinds.TEXT, "", "The queue or partition."),
                Option("account", kinds.TEXT, "", "The account or project that is charged."),
                Option("time", kinds.TEXT, "", "The time limit, in the batch system's own form."),
                Option(
                    "options",
                    kinds.WORDS,
                    (),
                    "Further options for the batch system, without its prefix such as #SBATCH.",
                    example=("--mem=4G",),
                ),
                Option(
                    "setup",
                    kinds.WORDS,
                    (),
                    "Shell lines that are run before the engine.",
                    example=("module load python",),
                ),
                Option(
                    "python",
                    kinds.TEXT,
                    "",
                    "The Python interpreter on the nodes; nothing stands for the one in use here.",
                ),
            ),
        ),
    ),
)

SETTINGS = (CONTROLLER, TASK, ENGINE, MPI, CLUSTER)
