"""A controller and engines that are started, watched and ended together."""
