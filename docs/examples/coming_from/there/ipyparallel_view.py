"""ipyparallel: spread numbers over engines, work on the parts, and collect them."""

import ipyparallel as ipp

with ipp.Cluster(n=4, log_level=40) as rc:
    rc.wait_for_engines(4)
    view = rc[:]
    view.block = True
    view.scatter("numbers", range(16))
    view.execute("squares = [n * n for n in numbers]")
    print(view.gather("squares"))
    print(view.apply(lambda: sum(squares)))
