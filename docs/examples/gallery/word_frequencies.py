"""Count the words of a large text that a monkey has typed: Zipf's law.

Start engines in a terminal with ``ipcluster -n 4``, then run
``python word_frequencies.py``.
"""

import sys
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from ipython1.kernel import client

output = sys.argv[1] if len(sys.argv) > 1 else "word_frequencies.png"
open(output, "ab").close()  # fails before the work, not after it

SIZE = 3_000_000  # characters of the text
PART = 250_000  # characters of a task
KEYS = b" \netaoinshrdlu"
CHANCES = np.array([16, 1, 13, 10, 9, 8.5, 8, 7.5, 7, 6.5, 6, 4.5, 4, 3])
CHANCES = CHANCES / CHANCES.sum()
ENGLISH = ["a", "i", "to", "on", "at", "the", "and", "sea", "tea", "not", "note"]


def type_text(path):
    """What the monkey types; it is the same text each time."""
    keys = np.random.default_rng(1949).choice(len(KEYS), size=SIZE, p=CHANCES)
    path.write_bytes(np.frombuffer(KEYS, np.uint8)[keys].tobytes())


def count(start):
    """Count the words of the lines that begin in one part of the file."""
    words = Counter()
    with open(path, "rb") as file:
        if start:
            file.seek(start - 1)
            file.readline()  # the rest of a line that began in the part before
        while file.tell() < start + PART and (line := file.readline()):
            words.update(line.split())
    return words


with tempfile.TemporaryDirectory() as folder:
    path = Path(folder) / "text.txt"
    type_text(path)

    words = Counter()
    tc = client.TaskClient()
    for part in tc.imap(count, range(0, SIZE, PART), ordered=False):
        words.update(part)

    same = words == Counter(path.read_bytes().split())

total = words.total()
print(f"{total:,} words, {len(words):,} different ones")
print(f"the same as counted in one process: {same}")

# A word has the chance of its letters one after the other, and of its end.
chance = dict(zip(KEYS, CHANCES, strict=True))
end = chance[ord(" ")] + chance[ord("\n")]
found = [words[word.encode()] for word in ENGLISH]
products = [np.prod([chance[key] for key in word.encode()]) for word in ENGLISH]
expected = total * end / (1 - end) * np.array(products)
for word, times, mean in zip(ENGLISH, found, expected, strict=True):
    print(f"{word:4} {times:6,} times, expected {mean:8,.1f}")

# The chance of the word of rank r falls like r**-s, where the chances of the
# letters, to the power 1/s, add up to one.
low, high = 1.0, 3.0
while high - low > 1e-6:
    s = (low + high) / 2
    low, high = (low, s) if np.sum(CHANCES[2:] ** (1 / s)) > 1 else (s, high)
print(f"exponent of the theory: {s:.3f}")

matplotlib.rcParams["font.size"] = 12
figure = Figure(figsize=(7, 4), dpi=120, layout="constrained")
left, right = figure.subplots(1, 2)
counts = np.array(sorted(words.values(), reverse=True))
ranks = np.arange(1, len(counts) + 1)
left.loglog(ranks, counts, ".", markersize=4, label="counted", rasterized=True)
law = counts[99] * (ranks / 100) ** -s
left.loglog(ranks, law, label=f"rank$^{{-{s:.2f}}}$")
left.set(xlabel="rank of the word", ylabel="times", title="All words")
left.legend()
places = np.arange(len(ENGLISH))
errors = np.sqrt(expected)
right.errorbar(expected, places, xerr=errors, fmt="ks", mfc="none", label="expected")
right.semilogx(found, places, "C0o", label="counted")
right.set_yticks(places, ENGLISH)
right.invert_yaxis()
right.set(xlabel="times", title="English words")
right.legend()
figure.savefig(output)
