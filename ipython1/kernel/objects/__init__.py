"""All that pickles and unpickles, and what is pickled. Never in the controller."""
