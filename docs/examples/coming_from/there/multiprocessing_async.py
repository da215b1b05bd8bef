"""multiprocessing: results one by one, calls that one does not wait for, and a limit on the wait."""

import time
from multiprocessing import Pool, TimeoutError


def square(x):
    return x * x


if __name__ == "__main__":
    with Pool(4) as pool:
        print(sorted(pool.imap_unordered(square, range(5))))
        print(pool.apply_async(square, (20,)).get(timeout=30))
        slow = pool.apply_async(time.sleep, (60,))
        try:
            slow.get(timeout=0.5)
        except TimeoutError:
            print("not done yet")
