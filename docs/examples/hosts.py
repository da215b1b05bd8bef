"""The hosts of a cluster: where its controller and its engines run, and what they need there."""

controller = dict(host="myhost", engine_port=None, control_port=None)

engines = dict(
    node1=2,
    node2=2,
    node3=dict(n=4, python="/opt/python3.11/bin/python3", setup="module load blas"),
)

defaults = dict(env=dict(OMP_NUM_THREADS="1"))
