"""A client's tasks: encoding, sending and mapping."""
