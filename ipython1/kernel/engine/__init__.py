"""An engine's process: its link, and the main thread that runs what arrives."""
