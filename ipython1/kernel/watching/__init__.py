"""Showing what a cluster does: the monitor's page, and the view in a terminal."""
