"""This machine: files and keys that only their owner can read, sockets, clocks, logs."""
