"""All that pickles and unpickles, and what is pickled; never in the controller."""
