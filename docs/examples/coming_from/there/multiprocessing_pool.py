"""multiprocessing: a function for each item of a list."""

from multiprocessing import Pool


def cube(x):
    return x**3


if __name__ == "__main__":
    with Pool(4) as pool:
        print(pool.map(cube, [1, 2, 3]))
        print(pool.starmap(pow, [(2, 5), (3, 2)]))
