"""Clients that reach their controller through a host that they log in to, by a private sshd."""

from __future__ import annotations

from pathlib import Path

from ipython1.daemon import osprocess
from tests.test_ipcluster import IpclusterCase, until
from tests.testbeds import testbed

BEGIN = """
import os, signal, subprocess, sys, time
from ipython1.daemon import osprocess
from ipython1.kernel import client
from ipython1.kernel.error import KernelError
SSH = ["ssh", "-F", {config!r}, "node1"]
SECURITY = {security!r}
def children():
    table = osprocess.process_table().values()
    return [each.pid for each in table if each.parent == os.getpid() and each.state != "Z"]
def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
def error(*arguments, **options):
    try:
        client.MultiEngineClient(*arguments, **options)
    except KernelError as problem:
        print(type(problem).__name__, problem)
"""

GOES_ON = """
mec = client.MultiEngineClient(SECURITY + "/ipcontroller-mec.furl", ssh=SSH)
tc = client.TaskClient(SECURITY + "/ipcontroller-tc.furl", ssh=SSH)
print(mec.map(abs, [-1, -2]), tc.map(abs, [-3]))
mec.push({"data": bytes(5_000_000)}, targets=0)
print(len(mec.pull("data", targets=0)[0]))
pending = mec.execute("import time; time.sleep(1); a = 7", block=False)
print(len(children()))
for each in children():
    os.kill(each, signal.SIGKILL)
pending.r
print(mec.pull("a"), tc.map(abs, [-4]))
child = os.fork()
if child == 0:
    time.sleep(300)  # it must not keep the connections
mec.close()
tc.close()
until(lambda: children() == [child])
os.kill(child, signal.SIGKILL)
print("closed")
"""

WAITS = """
mec = client.MultiEngineClient(SECURITY + "/ipcontroller-mec.furl", ssh=SSH)
print("connected", flush=True)
time.sleep(300)
"""

ERRORS = """
file = SECURITY + "/ipcontroller-mec.furl"
plain = SSH[:-1]
error(file, ssh=[*plain, "no-such-host.invalid"])
error(file, ssh=[*plain, "-p", "1", "node1"])
error(file, ssh=[*plain, "-o", "UserKnownHostsFile=/dev/null", "node1"])
error(file, ssh=["ssh", "-F", "none", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
                 "-o", "IdentityFile=/dev/null", "-o", "IdentityAgent=none", "-o", "LogLevel=ERROR",
                 "-p", {port!r}, "127.0.0.1"])
error(file + "-x", ssh=SSH)
error(("127.0.0.1", 1), ssh=SSH)
furl = open(file).read().strip()
error(furl.replace(furl[furl.index("@"):furl.rindex("/")], "@tcp:127.0.0.1:1"), ssh=SSH)
error(file, ssh=["no-such-ssh", "node1"])
error(file, ssh=["ssh", "-F", {refusing!r}, "node1"])
"""

ASYNCIO = """
import asyncio
from ipython1.kernel import asyncclient
async def main():
    mec = await asyncclient.get_multiengine_client(SECURITY + "/ipcontroller-mec.furl", ssh=SSH)
    tc = await asyncclient.get_task_client(SECURITY + "/ipcontroller-tc.furl", ssh=SSH)
    print(await mec.map(abs, [-1, -2]), await tc.map(abs, [-3]))
    await mec.close()
    await tc.close()
    print(children())
asyncio.run(main())
"""


class SshClientTests(IpclusterCase):
    """A cluster that listens for its own host only; the clients log in to that host."""

    def setUp(self) -> None:
        self.config = testbed("ssh").environ["SSH_CONFIG"]
        super().setUp()
        security = str(self.directory / "security")
        self.begin = BEGIN.format(config=self.config, security=security)

    def go_elsewhere(self) -> None:
        """The clients have none of the cluster's files."""
        self.environ["IPYTHONDIR"] = str(self.directory / "elsewhere")

    def test_they_go_on_and_leave_nothing(self) -> None:
        self.start("-n", "1")
        self.go_elsewhere()
        before = self.processes()
        self.assertEqual(self.run_python(self.begin + ASYNCIO), "[1, 2] [3]\n[]\n")
        printed = self.run_python(self.begin + GOES_ON)
        self.assertEqual(printed, "[1, 2] [3]\n5000000\n2\n[7] [4]\nclosed\n")
        until(lambda: self.processes() == before)
        process = self.start_program([self.python, "-c", self.begin + WAITS])
        self.assertEqual(process.stdout.readline(), "connected\n")  # type: ignore[union-attr]
        ssh = [each for each in osprocess.descendants(process.pid) if self.is_ssh(each)]
        self.assertEqual(len(ssh), 1)
        process.kill()
        until(lambda: self.processes() == before)

    @staticmethod
    def is_ssh(pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ssh\0")
        except OSError:  # it has ended meanwhile
            return False

    def test_errors(self) -> None:
        """Each is one sentence, of what the user can do something about."""
        self.start_controller()
        self.go_elsewhere()
        refusing = testbed("ssh", forwarding="no").environ["SSH_CONFIG"]
        words = Path(self.config).read_text().split()
        port = words[words.index("Port") + 1]
        lines = self.run_python(
            self.begin
            + ERRORS.replace("{port!r}", repr(port)).replace("{refusing!r}", repr(refusing))
        ).splitlines()
        login = "ConnectionError cannot log in to"
        for line, expected in zip(
            lines,
            (
                f"{login} no-such-host.invalid by ssh: Could not resolve hostname .*",
                f"{login} node1 by ssh: connect to host 127.0.0.1 port 1: Connection refused",
                f"{login} node1 by ssh: Host key verification failed; log in once by hand .*",
                rf"{login} 127.0.0.1 by ssh: .*Permission denied \(publickey\); there is no terminal .*",
                "NoController there is no FURL file .*mec.furl-x on node1; check the name",
                "NoController there is no FURL file .*ipcontroller-mec.furl on node1; start a cluster there .*",
                "NoController nothing listens at 127.0.0.1:1 as seen from node1 .*: is the controller running[?]",
                f"{login} node1 by ssh: cannot run no-such-ssh: No such file or directory",
                "ConnectionError node1 does not forward connections for you; its sshd_config must allow it .*",
            ),
            strict=True,
        ):
            self.assertRegex(line, f"^{expected}$")
