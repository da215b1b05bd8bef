"""``python -m ipython1 --check``: what it finds, also where programs are missing, broken, or hang."""

from __future__ import annotations

import contextlib
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from ipython1 import __main__ as package_main
from ipython1.daemon import osprocess
from ipython1.kernel.scripts import checkaction, checkelsewhere, checkmachine, checkversions
from ipython1.kernel.scripts.checkversions import Requirement, is_enough
from ipython1.kernel.scripts.findings import Finding, ask, within_limit
from ipython1.kernel.scripts.tests.optionscase import OptionsTestCase

PATIENCE = 60.0


class CheckTests(OptionsTestCase):
    def check(self, *words: str) -> tuple[int, dict[str, dict[str, str]]]:
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            status = package_main.main(
                ["--check", "--json", f"--ipython-dir={self.directory}", *words]
            )
        return status, {each["name"]: each for each in json.loads(written.getvalue())}

    def without_trial(self) -> None:
        trial = Finding("a trial", "one engine", "ok", "")
        self.patch(checkaction, "_cluster", lambda: trial)

    def test_what_has_to_be_mended_is_told(self) -> None:
        self.ini("[controller]\nnonsense = 1\n")
        self.without_trial()
        needed = [Requirement("Twisted", "24.11"), Requirement("no-such-package", "1.0")]
        needed.append(Requirement("psutil", "1000.0"))
        self.patch(checkversions, "requirements", lambda: (needed, {}))
        status, found = self.check()
        self.assertEqual(status, 1)
        bad = {name for name, each in found.items() if each["state"] == "bad"}
        self.assertEqual(bad, {"no-such-package", "psutil", "settings"})
        self.assertIn("nonsense", found["settings"]["text"])
        self.assertEqual(found["Twisted"]["state"], "ok")
        self.assertRegex(found["psutil"]["text"], "too old; .*pip install 'psutil>=1000.0'")

    def test_what_is_optional_is_no_failure(self) -> None:
        """With an empty PATH, everything that starts engines elsewhere is missing, and the rest works."""
        self.without_trial()
        self.patch(os, "environ", {**os.environ, "PATH": str(self.directory)})
        status, found = self.check()
        self.assertEqual(status, 0)
        for name in ("ssh", "ssh agent", "MPI", *checkelsewhere.PROGRAMS):
            self.assertEqual(found[name]["state"], "missing", found[name])
            self.assertIn("not found", found[name]["text"])

    def test_a_cluster_is_tried(self) -> None:
        """One engine computes, in a process of its own, and nothing is left."""
        found = checkaction._cluster()
        self.assertEqual(found.state, "ok", found.text)
        self.assertRegex(found.text, r"^started in [\d.]+ s, computed 42, and stopped$")

    def test_the_last_line_says_what_to_mend(self) -> None:
        self.without_trial()
        findings = [Finding("g", "good", "ok", "t"), Finding("g", "evil", "bad", "t")]
        self.patch(checkaction, "check", lambda directory: iter(findings))
        written = io.StringIO()
        with contextlib.redirect_stdout(written):
            self.assertEqual(package_main.main(["--check"]), 1)
        self.assertEqual(written.getvalue().splitlines()[-1], "to be mended: evil")

    def test_a_missing_package_stops_no_probe(self) -> None:
        """The check tells what is missing, so it needs nothing of that itself."""
        names = (
            "twisted foolscap zope.interface cryptography OpenSSL cloudpickle IPython traitlets configobj psutil "
            "tqdm rich setproctitle argcomplete"
        )
        code = (
            f"import sys; sys.modules.update(dict.fromkeys({names.split()}))\n"
            "from ipython1 import __main__ as package_main\n"
            "from ipython1.kernel.scripts import checkaction, findings\n"
            "checkaction._cluster = lambda: findings.Finding('a trial', 'one engine', 'ok', '')\n"
            f"sys.exit(package_main.main(['--check', '--json', '--ipython-dir={self.directory}']))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], env=self.environ(), capture_output=True, check=False
        )
        self.assertEqual((done.returncode, done.stderr), (1, b""))
        found = {each["name"]: each for each in json.loads(done.stdout)}
        self.assertEqual(found["TLS"]["state"], "bad")
        for name in ("memory", "shared memory"):
            self.assertIn("ModuleNotFoundError", found[name]["text"])

    def test_a_directory_that_is_made_later(self) -> None:
        """Whether it can be made is tried out, and nothing is left of that."""
        self.without_trial()
        status, found = self.check(f"--ipython-dir={self.directory}/new/ipython")
        self.assertEqual((status, found["files"]["state"]), (0, "ok"))
        self.assertEqual(list(self.directory.iterdir()), [])
        (self.directory / "file").touch()
        status, found = self.check(f"--ipython-dir={self.directory}/file/ipython")
        self.assertEqual((status, found["files"]["state"]), (1, "bad"))
        self.assertIn("cannot be made in", found["files"]["text"])

    def test_no_place_for_the_trial(self) -> None:
        self.patch(tempfile, "tempdir", str(self.directory / "missing"))
        found = checkaction._cluster()
        self.assertEqual(found.state, "bad")
        self.assertRegex(found.text, r"^not tried: .*\$TMPDIR")

    def environ(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join(filter(None, sys.path))
        return {**os.environ, "PATH": str(self.directory), "PYTHONPATH": path, **variables}

    def start(self, stdout: int = subprocess.DEVNULL, **variables: str) -> subprocess.Popen[str]:
        """Start a check in a process of its own."""
        check = subprocess.Popen(
            [sys.executable, "-m", "ipython1", "--check", f"--ipython-dir={self.directory}"],
            env=self.environ(**variables),
            stdout=stdout,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.addCleanup(check.wait)
        self.addCleanup(check.kill)
        return check

    def test_a_reader_that_has_enough(self) -> None:
        """As ``head -3``: no complaint."""
        reading, writing = os.pipe()
        os.close(reading)
        check = self.start(writing)
        os.close(writing)
        self.assertEqual(check.communicate(timeout=PATIENCE), (None, ""))
        self.assertEqual(check.returncode, 0)

    def test_ctrl_c_during_the_trial(self) -> None:
        """A line says so, and neither processes nor files are left."""
        place = self.directory / "tmp"
        place.mkdir()
        check = self.start(TMPDIR=str(place))
        deadline = time.monotonic() + PATIENCE
        while not list(place.glob("*/log/ipcontroller*")):
            self.assertIsNone(check.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        check.send_signal(signal.SIGINT)
        _, complaint = check.communicate(timeout=PATIENCE)
        self.assertEqual(complaint, "\npython -m ipython1: interrupted\n")
        self.assertEqual(check.returncode, 1)
        self.assertEqual(list(place.iterdir()), [])
        left = [
            each.pid
            for each in osprocess.process_table().values()
            if each.state != "Z" and osprocess.environment_of(each.pid).get("TMPDIR") == str(place)
        ]
        self.assertEqual(left, [])

    def test_options_without_a_check(self) -> None:
        line = self.assert_ends(2, package_main.main, ["--json"])
        self.assertIn("options of --check", line)

    def test_words(self) -> None:
        line = self.assert_ends(2, package_main.main, ["ipclustr", "-n", "4"])
        self.assertIn("did you mean 'ipcluster'?", line)
        line = self.assert_ends(2, package_main.main, ["ipcluster", "stop", "--forse"])
        self.assertIn("did you mean '--force'?", line)


class VersionTests(OptionsTestCase):
    def test_versions_are_compared_by_their_numbers(self) -> None:
        for version, lowest, enough in (
            ("24.11.0", "24.11", True),
            ("24.9.1", "24.11", False),
            ("9.0.0rc1", "9.0", True),
            ("6", "6.0", True),
            ("5.0.8", "5.0.10", False),
            ("1.3", "", True),
        ):
            self.assertEqual(is_enough(version, lowest), enough, (version, lowest))

    def test_the_lowest_versions_are_those_of_the_metadata(self) -> None:
        lines = ["Twisted[tls]>=24.11", "foolscap>=24.9", 'mpi4py>=4.1; extra == "mpi"']
        self.patch(checkversions.metadata, "requires", lambda name: lines)
        always, others = checkversions.requirements()
        self.assertEqual(always, [Requirement("Twisted", "24.11"), Requirement("foolscap", "24.9")])
        self.assertEqual(others, {"mpi4py": Requirement("mpi4py", "4.1")})


class MachineTests(OptionsTestCase):
    def test_this_machine_can_do_what_is_essential(self) -> None:
        """The other tests need it, too."""
        self.assertEqual(checkmachine.loopback().state, "ok")
        found = checkmachine.handshake()
        self.assertEqual(found.state, "ok")
        self.assertIn("TLSv1.3", found.text)

    def test_shared_memory_that_is_turned_off(self) -> None:
        self.patch(os, "environ", {**os.environ, "IPYTHON1_SHARED_MEMORY": "0"})
        found = checkmachine.shared_memory()
        self.assertEqual(found.state, "missing")
        self.assertIn("$IPYTHON1_SHARED_MEMORY is 0", found.text)


class LimitTests(OptionsTestCase):
    def test_a_probe_that_hangs_is_given_up(self) -> None:
        end = threading.Event()
        self.addCleanup(end.set)

        def hang() -> Finding:
            end.wait()
            raise AssertionError

        found = within_limit("g", "name", hang, "bad", limit=0.05)
        self.assertEqual(found, Finding("g", "name", "bad", "no answer within 0.05 s"))

    def test_a_probe_that_fails_is_told(self) -> None:
        def fail() -> Finding:
            raise OSError("out of\norder")

        found = within_limit("g", "name", fail)
        self.assertEqual(found, Finding("g", "name", "missing", "OSError: out of order"))

    def test_a_program_that_hangs_is_killed_with_its_children(self) -> None:
        """Even if a child keeps the output open."""
        path = self.directory / "child"
        code = (
            "import os, subprocess, sys, time; "
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); "
            f"open({str(path)!r} + '.new', 'w').write(str(child.pid)); "
            f"os.rename({str(path)!r} + '.new', {str(path)!r}); time.sleep(1000)"
        )
        answers = []
        thread = threading.Thread(
            target=lambda: answers.append(ask([sys.executable, "-c", code], limit=3.0))
        )
        thread.start()
        thread.join(PATIENCE)
        self.assertEqual([answer.status for answer in answers], [None])
        self.assertEqual(answers[0].text, "no answer within 3 s")
        if path.exists():
            self.assert_gone(int(path.read_text()))

    def test_nothing_is_left_after_ctrl_c(self) -> None:
        """A program that a probe waits for is killed with the check."""
        (self.directory / "bin").mkdir()
        path = self.directory / "pid"
        script = f"#!/bin/sh\necho $$ >{path}.new\nmv {path}.new {path}\nexec sleep 1000\n"
        program = self.directory / "bin" / "ssh"
        program.write_text(script)
        program.chmod(0o755)
        check = subprocess.Popen(
            [sys.executable, "-m", "ipython1", "--check", f"--ipython-dir={self.directory}"],
            env={
                **os.environ,
                "PATH": f"{program.parent}:{os.environ['PATH']}",
                "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
            },
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.addCleanup(check.wait)
        self.addCleanup(check.kill)
        deadline = time.monotonic() + PATIENCE
        while not path.exists():
            self.assertIsNone(check.poll())
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)
        check.send_signal(signal.SIGINT)
        self.assertNotEqual(check.wait(PATIENCE), 0)
        self.assert_gone(int(path.read_text()))

    def assert_gone(self, pid: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            state = subprocess.run(
                ["ps", "-o", "state=", "-p", str(pid)], capture_output=True, text=True, check=False
            ).stdout.strip()
            if state in ("", "Z"):
                return
        self.fail(f"process {pid} goes on")


class ElsewhereTests(OptionsTestCase):
    """Programs are stand-ins in a PATH of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.bin = self.directory / "bin"
        self.bin.mkdir()
        self.patch(os, "environ", {**os.environ, "PATH": f"{self.bin}:/usr/bin:/bin"})

    def program(self, name: str, script: str) -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return path

    def only(self) -> None:
        """Hide the real programs."""
        os.environ["PATH"] = str(self.bin)

    def test_agents(self) -> None:
        for script, state, words in (
            ("echo 256 SHA256:x ada; echo 256 SHA256:y ada", "ok", "has 2 keys"),
            ("echo none; exit 1", "missing", "add one with: ssh-add"),
            ("echo cannot >&2; exit 2", "missing", "without a passphrase"),
        ):
            self.program("ssh-add", script)
            found = checkelsewhere.agent()
            self.assertEqual(found.state, state)
            self.assertIn(words, found.text)

    def test_mpi(self) -> None:
        for script, words in (
            ("echo 'mpiexec (OpenRTE) 4.1.4'; echo more", "mpiexec (OpenRTE) 4.1.4"),
            (
                "echo HYDRA build details:; echo '    Version:      4.0.2'",
                "MPICH (Hydra) 4.0.2",
            ),
        ):
            path = self.program("mpiexec", script)
            found = checkelsewhere.mpi()
            self.assertEqual((found.state, found.text), ("ok", f"{path}: {words}"))
        path = self.program("mpiexec", r"printf 'x\033[2J\t1.0\000\n'")
        self.assertEqual(checkelsewhere.mpi().text, f"{path}: x[2J 1.0")
        self.program("mpiexec", "echo broken >&2; exit 3")
        self.assertEqual(checkelsewhere.mpi().state, "missing")

    def test_mpi4py(self) -> None:
        """What mpiexec and mpi4py make of each other."""
        python = self.program("python", "echo 'Other MPI 1.0'")
        self.patch(sys, "executable", str(python))
        for script, state, words in (
            ("echo world 2; echo world 2", "ok", "Other MPI 1.0; two processes found each other"),
            ("echo world 1; echo world 1", "missing", "another MPI than that of"),
            (
                "echo use --allow-run-as-root; exit 1",
                "missing",
                "--mpiexec='mpiexec --allow-run-as-root'",
            ),
            ("echo no slots; exit 1", "missing", "mpiexec -n 2 fails: no slots"),
        ):
            self.program("mpiexec", script)
            found = checkelsewhere.mpi4py()
            self.assertEqual(found.state, state, found.text)
            self.assertIn(words, found.text)
        self.program("python", "echo 'ModuleNotFoundError: mpi4py'; exit 1")
        self.assertIn("pip install 'ipython1[mpi]'", checkelsewhere.mpi4py().text)
        self.program("python", "echo Traceback; echo 'ImportError: libmpi.so'; exit 1")
        self.assertIn("cannot be used: ImportError: libmpi.so", checkelsewhere.mpi4py().text)

    def test_batch_systems(self) -> None:
        """All of its programs must be there."""
        self.only()
        self.program("sbatch", "")
        self.program("squeue", "")
        found = checkelsewhere.batch_system("slurm", checkelsewhere.PROGRAMS["slurm"])
        self.assertEqual(found.state, "missing")
        self.assertRegex(found.text, "^scancel not found")
        self.program("scancel", "")
        found = checkelsewhere.batch_system("slurm", checkelsewhere.PROGRAMS["slurm"])
        self.assertEqual(found.state, "ok")
        self.assertIn(str(self.bin), found.text)

    def test_the_programs_are_those_of_the_launchers(self) -> None:
        from ipython1.kernel.launchers import BATCH_KINDS, launcher_class

        told = {
            kind: programs
            for kinds, programs in checkelsewhere.PROGRAMS.items()
            for kind in kinds.split(", ")
        }
        self.assertEqual(set(told), set(BATCH_KINDS))
        for kind, programs in told.items():
            self.assertEqual(launcher_class(kind).system.programs, programs, kind)
