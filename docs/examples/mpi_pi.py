"""The area under a curve: each rank computes its share."""

from ipython1.kernel import client

mec = client.MultiEngineClient()
mec.execute(
    """
from mpi4py import MPI
comm = MPI.COMM_WORLD

def share(steps):
    width = 1.0 / steps
    mine = range(comm.rank, steps, comm.size)
    part = sum(4.0 / (1.0 + ((i + 0.5) * width) ** 2) for i in mine) * width
    return comm.allreduce(part)
"""
)
mec.execute("pi = share(steps=100000)")
print(mec.execute("comm.rank, comm.size"))
print([f"{value:.6f}" for value in mec.pull("pi")])
