"""Engines as the pods of Kubernetes Jobs."""
