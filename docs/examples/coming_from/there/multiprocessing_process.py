"""multiprocessing: a process that sends what it finds, and another that waits for a word."""

from multiprocessing import Pipe, Process


def worker(connection):
    for number in iter(connection.recv, None):
        connection.send(number * 10)


if __name__ == "__main__":
    mine, its = Pipe()
    process = Process(target=worker, args=(its,))
    process.start()
    for number in (1, 2, 3):
        mine.send(number)
        print(mine.recv())
    mine.send(None)
    process.join()
