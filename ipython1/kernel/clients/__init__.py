"""The classes that users work with: blocking and asynchronous clients, and the magics."""
