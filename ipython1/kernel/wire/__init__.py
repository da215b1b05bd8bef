"""What travels: frames, payloads, messages, bulk transfers; it knows no network."""
