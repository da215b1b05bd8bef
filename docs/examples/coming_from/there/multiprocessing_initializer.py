"""multiprocessing: load something once in each process."""

from multiprocessing import Pool


def load(limit):
    global roots
    roots = {n * n: n for n in range(limit)}


def root(square):
    return roots.get(square)


if __name__ == "__main__":
    with Pool(4, initializer=load, initargs=(100,)) as pool:
        print(pool.map(root, [49, 50, 6400]))
