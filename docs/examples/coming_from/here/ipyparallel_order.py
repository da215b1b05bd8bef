"""ipython1: tasks that run after others, and where another one ran."""

from ipython1.kernel.client import Cluster

with Cluster(n=4) as cluster:
    tc = cluster.task()

    def load():
        global table
        table = [2, 3, 5]

    first = tc.submit(load)
    total = tc.with_options(follow=first.taskid).submit(lambda: sum(table))
    print(total.result())
    ran = [tc.get_task_result(call.taskid).engineid for call in (first, total)]
    print(ran[0] == ran[1])
