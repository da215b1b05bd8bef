"""What travels: frames, payloads, messages, bulk transfers. Knows no network."""
