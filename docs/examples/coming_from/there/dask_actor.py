"""dask: an object that stays on one worker."""

from dask.distributed import Client


class Counter:
    n = 0

    def add(self, by):
        self.n += by
        return self.n


if __name__ == "__main__":
    with Client(n_workers=2, threads_per_worker=1, dashboard_address=None) as client:
        counter = client.submit(Counter, actor=True).result()
        print([counter.add(by).result() for by in (1, 2, 3)])
        print(counter.n)
