"""An engine's process: its link with the controller, and the main thread that runs what arrives."""
