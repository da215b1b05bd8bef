"""Engines behind ``concurrent.futures``."""
