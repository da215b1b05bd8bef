"""ipython1: an object with a state of its own, on each engine."""

from ipython1.kernel.client import Cluster


class Account:
    def __init__(self):
        self.balance = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance


with Cluster(n=2) as cluster:
    accounts = cluster.multiengine()
    accounts["account"] = Account()
    accounts.block = False
    for amount in (10, 20, 30):
        waiting = accounts.apply(lambda amount: account.deposit(amount), amount)
    print(waiting.get())
