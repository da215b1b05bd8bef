"""Progress as one line of text: how much is done, the time it takes, and what failed."""

from __future__ import annotations

from typing import Final

BAR: Final = "{l_bar}{bar:20}| {n_fmt}/{total_fmt} {unit} [{elapsed}<{remaining}{postfix}]"


def meter(
    label: str, done: int, total: int, seconds: float, unit: str, failed: int = 0, width: int = 0
) -> str:
    """Return a line such as ``map:  42%|████      | 42/100 items [00:12<00:17, 3.4/s, 2 failed]``.

    :param label: the text before the numbers.
    :param done: how many are done.
    :param total: of how many; 0 if that is not known.
    :param seconds: the time since the beginning.
    :param unit: what is counted, in the singular; of engines, no rate is shown.
    :param failed: how many of those that are done have failed.
    :param width: characters that it may take at most; 0 for no limit.
    """
    from tqdm.std import tqdm  # only when a bar is really shown

    notes = [f"{done / seconds:.3g}/s"] if done and seconds > 0 and unit != "engine" else []
    if failed:
        notes.append(f"{failed} failed")
    if not total:
        return f"{label}: {', '.join([f'{done} {unit}s', f'{seconds:.0f} s', *notes])}"
    units = unit if total == 1 else f"{unit}s"
    line: str = tqdm.format_meter(
        done, total, seconds, prefix=label, unit=units, postfix=", ".join(notes), bar_format=BAR
    )
    return line if not width or len(line) <= width else describe(label, done, total, seconds, unit)


def describe(label: str, done: int, total: int, seconds: float, unit: str = "engine") -> str:
    """Return a text such as ``execute: 2 of 4 engines done, 3.2 s``."""
    return f"{label}: {done_of(done, total, unit)}, {seconds:.1f} s"


def done_of(done: int, total: int, unit: str) -> str:
    """Return a text such as ``2 of 4 engines done``."""
    return f"{done} of {total} {unit}{'' if total == 1 else 's'} done"
