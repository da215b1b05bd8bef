"""Foolscap: connections, capabilities, and a fast codec for the one message shape of the kernel."""
