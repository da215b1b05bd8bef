"""Errors, public names, checked attributes and interfaces, which load nothing else of the kernel."""
