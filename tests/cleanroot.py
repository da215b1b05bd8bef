"""A minimal Debian in a folder, in which the steps of a Containerfile are run; nothing here builds images.

The system is installed once, which takes a minute or two, and kept as an archive in the user's cache.  A step runs in
namespaces of its own, so that no process and no mount is left.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.testbeds.lib import Needs, missing

NEEDS = (Needs("debootstrap", ("debootstrap",)), Needs("unshare", ("util-linux",)))
SUITE = "bookworm"
PACKAGES = ("python3-venv", "ca-certificates")
LIMIT = 900.0
PASSED_ON = re.compile(r"PIP_(?!FIND_LINKS)\w+|SSL_\w+|REQUESTS_CA_BUNDLE|\w+_proxy|\w+_PROXY")
"""Variables by which programs find the package index from here."""

GIVEN = ("/etc/resolv.conf", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt")
"""Files of this host by which they find it."""


def why_not() -> str:
    """Return why there can be no clean root here; empty if there can."""
    if os.geteuid() != 0:
        return "needs root"
    lacking = [name for each in missing(NEEDS) for name in each.packages]
    return f"not installed: {', '.join(lacking)} (scripts/prepare-venv test)" if lacking else ""


def archive() -> Path:
    """Return the archive with the system; it is made if it is missing.

    :raises OSError: if it cannot be made, with the installer's last lines.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipython1-tests"
    path = cache / f"{SUITE}.tar"
    if path.exists():
        return path
    cache.mkdir(parents=True, exist_ok=True)
    # In memory, as the package manager writes each file through to the disk.
    memory = Path("/dev/shm")
    root = (memory if memory.is_dir() else cache) / f"ipython1-root-{os.getpid()}"
    try:
        done = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={','.join(PACKAGES)}", SUITE, root],
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )
        if done.returncode != 0:
            raise OSError(f"debootstrap failed: {' '.join(done.stdout.splitlines()[-3:])}")
        part = path.with_suffix(f".{os.getpid()}")
        leave_out = "--exclude=./var/cache/apt/archives/*.deb"
        subprocess.run(["tar", leave_out, "-C", root, "-cf", part, "."], check=True, timeout=LIMIT)
        os.replace(part, path)
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return path


@dataclass
class CleanRoot:
    """The system, unpacked into a folder, with what a Containerfile has changed so far.

    :ivar user: who runs commands, as ``UID:GID``.
    """

    path: Path
    user: str = "0:0"
    directory: str = "/"
    environ: dict[str, str] = field(
        default_factory=lambda: {"PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    )

    def unpack(self) -> None:
        """Unpack it, and let it reach the package index as this host does."""
        self.path.mkdir(mode=0o755, parents=True)
        subprocess.run(["tar", "-C", self.path, "-xf", archive()], check=True, timeout=LIMIT)
        for name in GIVEN:
            if Path(name).exists():
                shutil.copyfile(name, self.path / name[1:])

    def run(self, words: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run a command in it."""
        passed = {each: text for each, text in os.environ.items() if PASSED_ON.fullmatch(each)}
        environ: Mapping[str, str] = {**passed, **self.environ, "HOME": "/tmp"}
        script = (
            f"cd {shlex.quote(str(self.path))}; mount -t proc proc proc; mount --rbind /dev dev; "
            f'exec chroot --userspec={self.user} . sh -c "cd {self.directory}; exec \\"\\$@\\"" sh "$@"'
        )
        return subprocess.run(
            [
                *(
                    "unshare",
                    "--mount",
                    "--pid",
                    "--fork",
                    "--kill-child",
                    "sh",
                    "-ec",
                    script,
                    "sh",
                ),
                *("env", "-i", *(f"{name}={text}" for name, text in environ.items()), *words),
            ],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=LIMIT,
        )

    def follow(self, containerfile: str, context: Path) -> str:
        """Do what a Containerfile says.

        :param context: the directory that its COPY starts from.
        :returns: the words of CMD.
        :raises AssertionError: if a step fails, or is of a kind that is not known here.
        """
        text = re.sub(r"^\s*#.*\n", "", containerfile, flags=re.M).replace("\\\n", " ")
        last = ""
        for line in filter(None, map(str.strip, text.splitlines())):
            word, _, rest = line.partition(" ")
            match word:
                case "FROM":
                    continue
                case "COPY":
                    *sources, target = rest.split()
                    self._copy([context / each for each in sources], target)
                case "RUN":
                    done = self.run(["sh", "-c", rest])
                    assert done.returncode == 0, f"{line}\n{done.stdout}{done.stderr}"
                case "ENV":
                    self.environ.update(each.split("=", 1) for each in shlex.split(rest))
                case "USER":
                    self.user = rest
                case "WORKDIR":
                    self.directory = rest
                case "CMD":
                    last = rest
                case _:
                    raise AssertionError(f"unknown instruction: {line}")
        return last

    def _copy(self, sources: Sequence[Path], target: str) -> None:
        place = self.path / target[1:]
        for source in sources:
            if source.is_dir():
                ignored = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, place, dirs_exist_ok=True, ignore=ignored)
            else:
                into = place / source.name if target.endswith("/") else place
                into.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source, into)
