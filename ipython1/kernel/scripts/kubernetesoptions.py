"""The options of ``ipcluster`` for engines in Kubernetes."""

from __future__ import annotations

import argparse
from dataclasses import fields, replace
from typing import Any

from ipython1.kernel.basics.error import ClusterError
from ipython1.kernel.launchers.clusterconfig import KubernetesOptions
from ipython1.kernel.launchers.quantities import check_quantity
from ipython1.kernel.scripts import arguments


def add_kubernetes_options(group: Any) -> None:
    """Add the options to a parser, or a group of one."""
    group.add_argument("--image", metavar="IMAGE", help="the container image in which engines run")
    group.add_argument("--namespace", metavar="NAME", help="the namespace of the engines' pods")
    group.add_argument("--context", metavar="NAME", help="a context of the kubeconfig file")
    group.add_argument(
        "--cpu",
        type=_quantity,
        metavar="N",
        help="processors that each engine is guaranteed (2, 500m)",
    )
    group.add_argument(
        "--memory",
        type=_quantity,
        metavar="SIZE",
        help="memory that each engine is guaranteed, and its limit (4Gi)",
    )
    group.add_argument(
        "--pod-template",
        type=arguments.file,
        metavar="FILE",
        help="a YAML file with a pod that the engines' pods are made from",
    )


def kubernetes_options(given: argparse.Namespace, base: KubernetesOptions) -> KubernetesOptions:
    """Return what the command line says, over ``base``."""
    names = [each.name for each in fields(KubernetesOptions)]
    said = {name: getattr(given, name) for name in names}
    return replace(base, **{name: str(each) for name, each in said.items() if each is not None})


def _quantity(text: str) -> str:
    try:
        return check_quantity(text)
    except ClusterError as problem:
        raise argparse.ArgumentTypeError(str(problem)) from None
