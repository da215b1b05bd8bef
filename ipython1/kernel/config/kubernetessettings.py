"""The settings of engines in Kubernetes."""

from __future__ import annotations

from ipython1.config import kinds
from ipython1.config.schema import Option, Section
from ipython1.kernel.launchers.quantities import check_quantity

_QUANTITY = kinds.Kind("quantity(", "empty, or an amount such as 2, 500m or 4Gi", check_quantity)

KUBERNETES = Section(
    "kubernetes",
    "Engines started in Kubernetes.",
    (
        Option(
            "image",
            kinds.TEXT,
            "",
            "The container image in which engines run; empty means that of the pod template, or else of the pod "
            "that starts them.",
            example="registry.example.org/ipython1:1",
        ),
        Option(
            "namespace",
            kinds.TEXT,
            "",
            "The namespace of the engines' pods; empty means that of the pod that starts them, or of the kubeconfig's "
            "context.",
        ),
        Option(
            "context",
            kinds.TEXT,
            "",
            "A context of the kubeconfig file; empty means its current one.",
        ),
        Option(
            "cpu",
            _QUANTITY,
            "",
            "The processors that each engine is guaranteed, such as 2 or 500m; empty for no guarantee.",
        ),
        Option(
            "memory",
            _QUANTITY,
            "",
            "The memory that each engine is guaranteed, which is also its limit, such as 4Gi; empty for no limit.",
        ),
        Option(
            "pod_template",
            kinds.TEXT,
            "",
            "A YAML file with a pod that the engines' pods are made from.",
        ),
    ),
)
