"""Executors of ``concurrent.futures`` that run calls on engines."""
