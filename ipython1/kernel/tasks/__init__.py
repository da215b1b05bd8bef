"""A client's tasks: encoding them, sending them, mapping over them."""
