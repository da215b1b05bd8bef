"""This host: private files and keys, FURLs, sockets, clocks, log files."""
