"""What MPI launchers say when a job fails, in one line: the cause, without banners, advice and consequences.

========================  ==============================================================================================
launcher                  what it prints
========================  ==============================================================================================
Open MPI, PRRTE           paragraphs between lines of hyphens: a sentence, details as ``Name: value``, then advice
MPICH and relatives       ``[mpiexec@host] function (file:line): message``, the cause first, then what called it;
(Hydra)                   a banner with the exit code, or with the signal, and advice
both                      what ranks print themselves, and messages of ``ssh``
========================  ==============================================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

_RULE = re.compile(r"-{20,}")
_HYDRA = re.compile(r"\[(?:mpiexec|proxy)\S*@\S+\] \S+ \(.*?:\d+\): (.*)")
_ABORT = re.compile(r"(?:Abort\(\d+\) on node|Fatal error in|application called MPI_Abort).*")
_BANNER = re.compile(r"= +BAD TERMINATION")
_EXIT_CODE = re.compile(r"= +EXIT CODE: (\d+)")
_EXIT_STRING = re.compile(
    r"YOUR APPLICATION TERMINATED WITH THE EXIT STRING: (.*?) \(signal (\d+)\)"
)
_KILLED = re.compile(r"= +KILLED BY SIGNAL: (\d+) \((.*)\)")
_WHERE = re.compile(r"= +PID (\d+) RUNNING AT (\S+)")
_GENERAL = ("Primary job", "This help section is empty")
"""How paragraphs begin that say nothing of the cause."""

_OF_ENGINES = ("ipengine: ", "ssh: ", "srun: error: ")
"""How lines begin that tell the cause by themselves: the engines', and those of what starts processes on hosts."""


def mpi_cause(lines: Sequence[str]) -> str:
    """Return why an MPI job failed, in one line.

    :param lines: the last lines that the launcher and the ranks have printed.
    :returns: empty if they tell nothing that is known.
    """
    launcher = next(_hydra(lines), "") or next(_paragraphs(lines), "") or _banner(lines)
    # Without a word of the launcher, whoever printed a traceback may need all of it.
    rank = next(_aborts(lines), "") or (next(_exceptions(lines), "") if launcher else "")
    return next(_own(lines), "") or rank or launcher


def _own(lines: Sequence[str]) -> Iterator[str]:
    return (line for line in lines if line.startswith(_OF_ENGINES))


def _aborts(lines: Sequence[str]) -> Iterator[str]:
    return (line for line in lines if _ABORT.match(line))


def _exceptions(lines: Sequence[str]) -> Iterator[str]:
    """Yield what ends the tracebacks of ranks that failed before they were engines."""
    inside = False
    for line in lines:
        if line.startswith("Traceback (most recent call last):"):
            inside = True
        elif inside and line[:1].strip():
            yield line
            inside = False


def _hydra(lines: Sequence[str]) -> Iterator[str]:
    return (match[1] for match in map(_HYDRA.match, lines) if match)


def _paragraphs(lines: Sequence[str]) -> Iterator[str]:
    """Yield the cause that each of Open MPI's paragraphs tells."""
    inside: list[str] | None = None
    for line in lines:
        if not _RULE.fullmatch(line.strip()):
            if inside is not None:
                inside.append(line)
            continue
        if inside:
            text = _first_words(inside)
            if text and not text.startswith(_GENERAL):
                yield text
            inside = None
        else:
            inside = []


def _first_words(paragraph: Sequence[str]) -> str:
    """Return the first sentence of a paragraph, and the details if these follow it."""
    count = next((n for n, line in enumerate(paragraph) if line[:1].isspace()), len(paragraph))
    text = " ".join(line.strip() for line in paragraph[:count])
    sentence, _, more = text.partition(". ")
    sentence = sentence.rstrip(".:")
    if more and not more.endswith(":"):
        return sentence
    details: list[str] = []
    for line in paragraph[count:]:
        if not line[:1].isspace():
            break
        details.append(re.sub(r":\s+", " ", line.strip()))
    return f"{sentence}: {', '.join(details)}" if details else sentence


def _banner(lines: Sequence[str]) -> str:
    """Return what Hydra's banner tells of the process that ended first."""
    if not any(map(_BANNER.match, lines)):
        return ""
    text = "\n".join(lines)
    where, code = _WHERE.search(text), _EXIT_CODE.search(text)
    killed, ended = _KILLED.search(text), _EXIT_STRING.search(text)
    who = f"process {where[1]} on {where[2]}" if where else "a process"
    if killed:
        return f"{who} was killed by signal {killed[1]} ({killed[2]})"
    if ended:
        return f"{who} was killed by signal {ended[2]} ({ended[1]})"
    return f"{who} exited with status {code[1]}" if code else ""
