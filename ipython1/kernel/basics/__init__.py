"""Errors, public names and interfaces, which load nothing else of the kernel."""
