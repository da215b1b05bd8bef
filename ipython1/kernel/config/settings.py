"""The settings of ``ipython1.kernel.ini``."""

from __future__ import annotations

from dataclasses import replace

from ipython1.config import kinds
from ipython1.config.schema import Option, Section
from ipython1.kernel.config.clustersettings import CLUSTER
from ipython1.kernel.config.logsettings import LOGGING
from ipython1.kernel.config.monitorsettings import MONITOR
from ipython1.kernel.config.partysettings import GRACES, UPSTREAM
from ipython1.kernel.host.clientconfig import CLIENT
from ipython1.kernel.host.furl import check_host, check_location

GIB = 1024**3
MIB = 1024**2

_PORT = kinds.integer(0, 65535)
_ADDRESS = kinds.Kind(
    "address(",
    "empty, an IP address or a host name",
    lambda value: "" if value == "" else check_host(value),
)
_LOCATION = kinds.Kind(
    "location(",
    "empty, HOST or HOST:PORT, or several of these separated by commas and quoted as a whole",
    check_location,
)
_SECONDS = kinds.number(0, unit="seconds")
_INTERFACE = (
    Option(
        "controller_interface",
        kinds.OPTIONAL_DOTTED_NAME,
        "",
        "The interface that the controller is adapted to.",
    ),
    Option(
        "fc_interface",
        kinds.OPTIONAL_DOTTED_NAME,
        "",
        "The interface that the result is adapted to, which Foolscap makes available to clients.",
    ),
    Option(
        "furl_file",
        kinds.TEXT,
        "",
        "The name of its FURL file in the security directory; empty means ipcontroller-NAME.furl.",
    ),
    Option("enabled", kinds.BOOLEAN, True, "Whether controllers offer this interface."),
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
    "The interfaces that a controller offers to clients. Each has its own FURL file.",
    sections=(
        _interface(
            "multiengine",
            "ipython1.kernel.multiengine.IMultiEngine",
            "ipython1.kernel.multienginefc.IFCMultiEngine",
            "ipcontroller-mec.furl",
            "Clients address engines explicitly.",
        ),
        _interface(
            "task",
            "ipython1.kernel.task.ITaskController",
            "ipython1.kernel.taskfc.IFCTaskController",
            "ipcontroller-tc.furl",
            "Clients submit tasks, which are balanced among the engines.",
        ),
        _interface(
            "monitor",
            "ipython1.kernel.monitor.IMonitor",
            "ipython1.kernel.monitorfc.IFCMonitor",
            "ipcontroller-monitor.furl",
            "Clients look at engines, queues and counts, and can change nothing.",
        ),
    ),
    any_section=Section(
        "myinterface",
        "To add your own interface, add a section with any name. The controller imports the modules of "
        "both interfaces, and these modules must register the adapters.",
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
            "The address or network interface to listen on. Empty means all addresses of this host, but 127.0.0.1 "
            "for the controller of a cluster whose engines all run on this host; 127.0.0.1 admits only clients and "
            "engines on this host, :: all, and 0.0.0.0 all that use IPv4.",
        ),
        Option("client_port", _PORT, 0, "The port to listen on; 0 means any free port."),
        Option(
            "client_location",
            _LOCATION,
            "",
            "The address at which clients reach the controller, or several with commas between them, in the order in "
            "which they are tried; empty means all addresses of this host.",
        ),
        Option(
            "client_cert_file",
            kinds.TEXT,
            "",
            "The key file of the clients' listener; empty means ipcontroller.pem in the security "
            "directory. If the file is missing, the controller creates it.",
        ),
        Option(
            "engine_ip",
            _ADDRESS,
            "",
            "Like client_ip, for engines. If none of engine_ip, engine_port and engine_cert_file is set, "
            "one port serves engines and clients.",
        ),
        Option("engine_port", _PORT, 0, "Like client_port, for engines."),
        Option("engine_location", _LOCATION, "", "Like client_location, for engines."),
        Option("engine_cert_file", kinds.TEXT, "", "Like client_cert_file, for engines."),
        UPSTREAM,
        Option(
            "reuse_furls",
            kinds.BOOLEAN,
            True,
            "Keep the FURLs and the port of the last run, so that engines and clients find a controller that is "
            "started again, and copies of the FURL files on other hosts stay valid.",
        ),
        *GRACES,
        *LOGGING,
        Option(
            "log_days",
            kinds.number(0, unit="days"),
            30.0,
            "The logs of controllers, engines and clusters in this controller's log directory that no process has open "
            "are removed after so many days without a line; 0 keeps them.",
        ),
        Option(
            "audit_log",
            kinds.BOOLEAN,
            False,
            "Whether to write who connects, with which capability, and what code they run, to "
            "ipcontroller-audit.log in the log directory; rotated at log_size.",
        ),
        Option(
            "max_message_size",
            kinds.SIZE,
            4 * GIB,
            "The largest object that may be sent through the controller; a larger one raises "
            "MessageSizeError.",
        ),
        Option(
            "spool_size",
            kinds.SIZE,
            4 * GIB,
            "How much of what is sent to slow engines and clients may wait in a temporary file (see TMPDIR) of the "
            "controller. What is more waits where it comes from.",
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
            "The class that chooses the next task: FIFOScheduler, LIFOScheduler or PriorityScheduler in "
            "ipython1.kernel.task, or your own class, which the controller must be able to import.",
        ),
        Option(
            "kill_limit",
            kinds.integer(1, 1000),
            3,
            "How many engines may die while running a task before it is no longer retried.",
        ),
        Option(
            "abort_grace",
            _SECONDS,
            5.0,
            "Seconds that an aborted task may keep running before its engine is killed.",
        ),
        Option(
            "unrunnable_after",
            _SECONDS,
            0.0,
            "Seconds that a task waits at most while no engine can run it: while there is none, or its depend function "
            "is false for all. Then it fails with TaskTimeout. 0 means that it waits for ever.",
        ),
        Option(
            "prefetch_seconds",
            kinds.number(0.0001, 60, unit="seconds"),
            0.010,
            "About how many seconds of work to queue on an engine ahead of time.",
        ),
        Option(
            "prefetch_min",
            kinds.integer(1, 65536),
            2,
            "The minimum number of tasks to queue on an engine ahead of time.",
        ),
        Option(
            "prefetch_max",
            kinds.integer(1, 65536),
            4096,
            "The maximum number of tasks to queue on an engine ahead of time.",
        ),
        Option(
            "result_age",
            _SECONDS,
            86400.0,
            "Seconds that results already delivered to their client are kept in memory for other clients. With "
            "a journal, its own limits count.",
        ),
        Option(
            "result_size",
            kinds.SIZE,
            64 * MIB,
            "Total size of the results already delivered to their client that are kept in memory for other "
            "clients; the oldest are dropped first. With a journal, this is a cache, which gives way to results that "
            "are not delivered or not written yet.",
        ),
    ),
)

JOURNAL = Section(
    "journal",
    "The journal: what the controller writes down so that nothing is lost when it ends unexpectedly.",
    (
        Option(
            "enabled",
            kinds.BOOLEAN,
            True,
            "Whether the controller keeps a journal. Without one, tasks, results and commands that wait are lost with "
            "the controller's process.",
        ),
        Option(
            "journal_sync",
            kinds.choice("normal", "full"),
            "normal",
            "What must not lose anything that the controller has confirmed: normal means the end of any process (the "
            "disk is synced every second, so a power failure may cost about one second); full means a power "
            "failure too (the disk is synced before anything is confirmed).",
        ),
        Option(
            "directory",
            kinds.TEXT,
            "",
            "Where journals are; empty means the directory journal in the IPython directory.",
        ),
        Option(
            "keep_age",
            kinds.number(1, unit="seconds"),
            86400.0,
            "Seconds that results are kept after their completion, for any client that asks.",
        ),
        Option(
            "keep_size",
            kinds.SIZE,
            10 * GIB,
            "Total size of the results that are kept; the oldest are dropped first.",
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
            "The FURL file for engines; empty means ipcontroller-engine.furl in the security directory.",
        ),
        Option(
            "mpi",
            kinds.TEXT,
            "",
            "The setting in the [mpi] section whose code sets up MPI; empty means no MPI.",
        ),
        Option(
            "connect_timeout",
            kinds.number(0, 7 * 86400, unit="seconds"),
            60.0,
            "Seconds that an engine waits for the FURL file and for the controller to answer.",
        ),
        Option(
            "reconnect_timeout",
            kinds.number(0, unit="seconds"),
            600.0,
            "Seconds that an engine tries to reconnect to a lost controller before it exits.",
        ),
        *LOGGING,
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
    "Code that sets up MPI in an engine's namespace before anything else runs there. 'ipengine "
    "--mpi=NAME' selects it by name. The code must define mpi, with mpi.rank and mpi.size.",
    (
        Option("mpi4py", kinds.CODE, _MPI4PY, "For mpi4py."),
        Option("pytrilinos", kinds.CODE, _PYTRILINOS, "For PyTrilinos."),
    ),
    any_option=Option(
        "myown",
        kinds.CODE,
        "",
        "To add your own code, add a setting with any name.",
        example="\nfrom mypackage import mpi\n",
    ),
)

SETTINGS = (CONTROLLER, TASK, MONITOR, JOURNAL, ENGINE, MPI, CLUSTER, CLIENT)
