"""Deletes all objects of a cluster from Kubernetes: what a cluster's nanny runs at its end.

Its arguments are the context of the kubeconfig (may be empty), the namespace, the label selector of the objects,
and the seconds that engines may take to end.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.kube.api import KubernetesApi

MODULE = "ipython1.kernel.launchers.kube.end"


def main(argv: Sequence[str]) -> int:
    """Delete them.

    :returns: the exit status.
    """
    context, namespace, selector, grace = argv
    try:
        KubernetesApi(context, namespace).delete_all(selector, int(grace))
    except ClusterError as problem:
        print(f"ipcluster: {problem}", file=sys.stderr)
        return 1
    return 0
