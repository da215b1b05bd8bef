"""ipyparallel: tasks that run after others, and where another one ran."""

import ipyparallel as ipp

with ipp.Cluster(n=4, log_level=40) as rc:
    rc.wait_for_engines(4)
    lview = rc.load_balanced_view()

    def load():
        global table
        table = [2, 3, 5]

    first = lview.apply(load)
    with lview.temp_flags(follow=first, after=first):
        total = lview.apply(lambda: sum(table))
    print(total.get())
    print(total.engine_id == first.engine_id)
