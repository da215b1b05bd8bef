"""The contents of frames for registration, commands and questions."""

from ipython1.kernel.wire.messages import (
    ENGINE,
    FAILED,
    MOST_TARGETS,
    MULTIENGINE,
    OK,
    ORIGIN_SIZE,
    REFUSED,
    ROLES,
    TASK,
    CommandMeta,
    Hello,
    OutcomeMeta,
    Welcome,
    pack_ids,
    pack_json,
    pack_refusal,
    unpack_ids,
    unpack_json,
    unpack_welcome,
)
from ipython1.kernel.wire.messages import (
    SubmitMeta as Submit,
)

__all__ = [
    "ENGINE",
    "FAILED",
    "MOST_TARGETS",
    "MULTIENGINE",
    "OK",
    "ORIGIN_SIZE",
    "REFUSED",
    "ROLES",
    "TASK",
    "CommandMeta",
    "Hello",
    "OutcomeMeta",
    "Submit",
    "Welcome",
    "pack_ids",
    "pack_json",
    "pack_refusal",
    "unpack_ids",
    "unpack_json",
    "unpack_welcome",
]
