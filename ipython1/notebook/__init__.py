"""What notebooks and terminals display of clients, calls and output."""
