"""The blocking and asynchronous clients, the magics, and the joblib backend."""
