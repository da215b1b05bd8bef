"""The fault suite: what the kernel must survive, injected for real; see :mod:`tests.faults.common`."""
