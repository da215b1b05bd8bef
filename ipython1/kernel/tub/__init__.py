"""Foolscap: connections, capabilities, and a fast codec for our one message shape."""
