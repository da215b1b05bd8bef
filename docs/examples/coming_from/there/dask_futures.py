"""dask: functions whose arguments are the results of others."""

from dask.distributed import Client


def square(x):
    return x * x


def total(*numbers):
    return sum(numbers)


if __name__ == "__main__":
    with Client(n_workers=4, threads_per_worker=1, dashboard_address=None) as client:
        squares = client.map(square, range(10))
        first, second = client.submit(total, *squares[:5]), client.submit(total, *squares[5:])
        print(client.gather([first, second]))
        print(client.submit(total, first, second).result())
