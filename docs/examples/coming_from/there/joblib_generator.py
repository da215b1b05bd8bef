"""joblib: add up results as they come, without keeping them."""

from joblib import Parallel, delayed


def count(n):
    return len(str(2**n))


parallel = Parallel(n_jobs=4, return_as="generator_unordered")
print(sum(parallel(delayed(count)(n) for n in range(500))))
