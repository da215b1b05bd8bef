"""dask: a graph of delayed calls."""

import dask


@dask.delayed
def read(n):
    return list(range(n))


@dask.delayed
def mean(numbers):
    return sum(numbers) / len(numbers)


@dask.delayed
def largest(means):
    return max(means)


if __name__ == "__main__":
    result = largest([mean(read(n)) for n in (3, 9, 6)])
    print(result.compute(scheduler="processes"))
