"""Where the kernel's private files are, and how FURLs are read from them."""

from ipython1.kernel.host.furl import (
    HIDDEN,
    Furl,
    check_host,
    check_location,
    check_port,
    format_hint,
    parse_furl,
    redact,
)
from ipython1.kernel.host.private_files import (
    ensure_private_dir,
    read_private,
    read_private_if_there,
    write_private,
)
from ipython1.kernel.host.security import (
    ClusterFiles,
    IPythonDirs,
    check_cluster_id,
    read_furl,
    wait_for_furl,
    write_furl,
)

__all__ = [
    "HIDDEN",
    "ClusterFiles",
    "Furl",
    "IPythonDirs",
    "check_cluster_id",
    "check_host",
    "check_location",
    "check_port",
    "ensure_private_dir",
    "format_hint",
    "parse_furl",
    "read_furl",
    "read_private",
    "read_private_if_there",
    "redact",
    "wait_for_furl",
    "write_furl",
    "write_private",
]
