"""What travels between two parties: frames, payloads, messages and bulk transfers.  Knows no network."""
