"""The cause in what MPI launchers print; all of it was printed by real ones."""

from twisted.trial import unittest

from ipython1.daemon.processes import ProcessStatus, State
from ipython1.kernel.launchers.failures import describe_failure, reason_and_lines
from ipython1.kernel.launchers.mpiwords import mpi_cause

RULE = "-" * 74

OPEN_MPI = (
    (
        f"""{RULE}
An unrecognized option was included on the mpiexec command line:
  Option: --no-such-option
Please use the "mpiexec --help" command to obtain a list of all
supported options.
{RULE}""",
        "An unrecognized option was included on the mpiexec command line: Option --no-such-option",
    ),
    (
        f"""ipengine: cannot set up MPI with --mpi=x: ModuleNotFoundError: No module named 'x'
ipengine: cannot set up MPI with --mpi=x: ModuleNotFoundError: No module named 'x'
{RULE}
prterun detected that one or more processes exited with non-zero status,
thus causing the job to be terminated. The first process to do so was:
   Process name: [prterun-vm-26316@1,0]
   Exit code:    1
{RULE}""",
        "ipengine: cannot set up MPI with --mpi=x: ModuleNotFoundError: No module named 'x'",
    ),
    (
        f"""[vm:30479] *** Process received signal ***
[vm:30479] Signal: Segmentation fault (11)
[vm:30479] [ 1] /lib/x86_64-linux-gnu/libc.so.6(kill+0x7)[0x7fe9f305a267]
[vm:30479] *** End of error message ***
{RULE}
prterun noticed that process rank 1 with PID 30479 on node vm exited on
signal 11 (Segmentation fault).
{RULE}""",
        "prterun noticed that process rank 1 with PID 30479 on node vm exited on signal 11 (Segmentation fault)",
    ),
    (
        f"""{RULE}
MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD
  Proc: [[62763,1],1]
  Errorcode: 7
NOTE: invoking MPI_ABORT causes Open MPI to kill all MPI processes.
You may or may not see output from other processes, depending on
exactly when Open MPI kills them.
{RULE}
{RULE}
prterun has exited due to process rank 1 with PID 0 on node vm calling
"abort". This may have caused other processes in the application to be
terminated by signals sent by prterun (as reported here).
{RULE}""",
        "MPI_ABORT was invoked on rank 1 in communicator MPI_COMM_WORLD: Proc [[62763,1],1], Errorcode 7",
    ),
    (
        f"""{RULE}
There are not enough slots available in the system to satisfy the 200
slots that were requested by the application:
  /usr/bin/python
Either request fewer procs for your application, or make more slots
available for use.
A "slot" is the PRRTE term for an allocatable unit where we can
launch a process.  The number of slots available are defined by the
environment in which PRRTE processes are run:
  1. Hostfile, via "slots=N" clauses (N defaults to number of
     processor cores if not provided)
{RULE}""",
        "There are not enough slots available in the system to satisfy the 200 slots that were requested by the "
        "application: /usr/bin/python",
    ),
    (
        f"""ssh: Could not resolve hostname nosuchhost: Name or service not known
{RULE[:60]}
A daemon failed to report back after being spawned. This could
be due to several factors, including inability to find the
daemon executable, or the executable was unable to find its
required supporting libraries. In some cases, the daemon was
able to execute, but was unable to complete a TCP connection
back to prterun:
  Local host:    vm
{RULE[:60]}""",
        "ssh: Could not resolve hostname nosuchhost: Name or service not known",
    ),
    (
        f"""Traceback (most recent call last):
  File "<string>", line 1, in <module>
ImportError: libmpi.so.40: cannot open shared object file
{RULE}
Primary job  terminated normally, but 1 process returned
a non-zero exit code. Per user-direction, the job has been aborted.
{RULE}
{RULE}
mpirun detected that one or more processes exited with non-zero status, thus causing
the job to be terminated. The first process to do so was:
  Process name: [[1,1],0]
  Exit code:    1
{RULE}""",
        "ImportError: libmpi.so.40: cannot open shared object file",
    ),
)

MPICH = (
    (
        """[mpiexec@vm] match_arg (/mpich-5.0.2/src/pm/hydra/lib/utils/args.c:166): unrecognized argument no-such-option
[mpiexec@vm] HYDU_parse_array (/mpich-5.0.2/src/pm/hydra/lib/utils/args.c:181): argument matching returned error
[mpiexec@vm] main (/mpich-5.0.2/src/pm/hydra/mpiexec/mpiexec.c:49): error parsing parameters""",
        "unrecognized argument no-such-option",
    ),
    (
        """===================================================================================
=   BAD TERMINATION OF ONE OF YOUR APPLICATION PROCESSES
=   PID 18816 RUNNING AT vm
=   EXIT CODE: 11
=   CLEANING UP REMAINING PROCESSES
=   YOU CAN IGNORE THE BELOW CLEANUP MESSAGES
===================================================================================
YOUR APPLICATION TERMINATED WITH THE EXIT STRING: Segmentation fault (signal 11)
This typically refers to a problem with your application.
Please see the FAQ page for debugging suggestions""",
        "process 18816 on vm was killed by signal 11 (Segmentation fault)",
    ),
)


class CauseTests(unittest.SynchronousTestCase):
    def test_mpich(self) -> None:
        for text, cause in MPICH:
            self.assertEqual(mpi_cause(text.splitlines()), cause)

    def test_other_output_stays_as_it_is(self) -> None:
        lines = ("Traceback (most recent call last):", '  File "x.py", line 1', "ValueError: no")
        status = ProcessStatus("engine-1", "engine 1", state=State.ENDED, status=1, lines=lines)
        self.assertEqual(reason_and_lines(status), ("exited with status 1", lines))
        self.assertEqual(describe_failure(status), "engine 1 exited with status 1: ValueError: no")

    def test_open_mpi(self) -> None:
        for text, cause in OPEN_MPI:
            self.assertEqual(mpi_cause(text.splitlines()), cause)
