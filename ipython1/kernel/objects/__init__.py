"""Everything that pickles and unpickles, and what is pickled; for clients and engines, never for the controller."""
