"""Errors, words, and interfaces that nothing needs to be loaded for."""
