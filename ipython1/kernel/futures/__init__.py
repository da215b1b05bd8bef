"""Engines behind ``concurrent.futures`` and joblib."""
