"""dask: use each result as soon as it is there."""

import time

from dask.distributed import Client, as_completed


def work(seconds):
    time.sleep(seconds)
    return seconds


if __name__ == "__main__":
    with Client(n_workers=4, threads_per_worker=1, dashboard_address=None) as client:
        futures = client.map(work, [1.5, 0.1, 0.7])
        for _future, seconds in as_completed(futures, with_results=True):
            print(seconds)
