"""Showing what a cluster does: the monitor's page, its figures, and the view in a terminal."""
