"""Ray: an actor with a state of its own."""

import ray

ray.init(num_cpus=2, log_to_driver=False, logging_level="ERROR")


@ray.remote
class Account:
    def __init__(self):
        self.balance = 0

    def deposit(self, amount):
        self.balance += amount
        return self.balance


accounts = [Account.remote() for _ in range(2)]
for amount in (10, 20, 30):
    waiting = [account.deposit.remote(amount) for account in accounts]
print(ray.get(waiting))
