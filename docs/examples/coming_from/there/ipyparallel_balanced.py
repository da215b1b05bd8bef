"""ipyparallel: calls to whichever engine is free, results as they come, and an error."""

import time

import ipyparallel as ipp


def work(seconds):
    time.sleep(seconds)
    return seconds


with ipp.Cluster(n=4, log_level=40) as rc:
    rc.wait_for_engines(4)
    rc[:].execute("import time", block=True)
    lview = rc.load_balanced_view()
    for seconds in lview.map_async(work, [1.5, 0.1, 0.7], ordered=False):
        print(seconds)
    try:
        lview.map_sync(lambda x: 12 // x, [1, 0, 4])
    except ipp.CompositeError as error:
        print("failed:", error.elist[0][0])
