"""``ipcluster list``: the clusters of a directory."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace

from ipython1.kernel.basics.error import KernelError
from ipython1.kernel.clusters.byhand import all_by_hand
from ipython1.kernel.clusters.status import ClusterStatus, read_state
from ipython1.kernel.host.security import IPythonDirs
from ipython1.kernel.scripts.arguments import OneLineParser
from ipython1.kernel.scripts.clusterwords import word_parser
from ipython1.kernel.scripts.statusaction import summary

TEXT = """\
Controllers and engines that were started by hand are among them.
"""


def make_parser() -> OneLineParser:
    """The command line."""
    parser = word_parser("list", TEXT)
    parser.add_argument("--json", action="store_true", help="as a JSON list")
    return parser


def run(given: argparse.Namespace) -> int:
    """Do it."""
    directory = IPythonDirs.resolve(given.ipython_dir)
    found = clusters_of(directory)
    if given.json:
        print(json.dumps([state.to_json() for state in found], indent=1))
    elif not found:
        print(f"no clusters in {directory.ipython_dir}")
    for state in found if not given.json else ():
        print(f"{state.cluster_id or '(default)'}: {summary(state)}")
    return 0


def clusters_of(directory: IPythonDirs) -> list[ClusterStatus]:
    """Return all clusters of a directory; one whose file cannot be read is told and left out."""
    found = []
    for path in sorted(directory.security.glob("ipcluster*.json")):
        try:
            state = read_state(path)
        except KernelError as problem:
            print(f"ipcluster: {problem}", file=sys.stderr)
            continue
        if state is not None:
            if state.is_here and not state.is_alive:
                state = replace(state, state="gone", ids=())
            elif state.is_here and state.is_stopped:
                state = state.as_last_known()
            found.append(state)
    known = {state.cluster_id for state in found}
    return found + [each for each in all_by_hand(directory) if each.cluster_id not in known]
