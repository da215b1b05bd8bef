"""Where a controller listens whose engines all run on its host."""

from __future__ import annotations

from twisted.trial import unittest

from ipython1.kernel.launchers.clusterconfig import ClusterConfig, ControllerOptions, MpiOptions
from ipython1.kernel.launchers.places import EVERYWHERE, HERE, all_here, listen_here

NOTHING = {"client_ip": "", "client_location": "", "engine_ip": "", "engine_location": ""}


class PlacesTests(unittest.SynchronousTestCase):
    def test_kinds(self) -> None:
        for kind in ("ssh", "slurm", "sge", "pbs", "lsf", "mygrid"):
            self.assertFalse(all_here(ClusterConfig(kind), {}))
        self.assertTrue(all_here(ClusterConfig("local"), {"SLURM_JOB_NODELIST": "node[1-4]"}))

    def test_mpi_on_one_host_counts_as_local(self) -> None:
        for command, here in (
            ("mpiexec", True),
            ("/opt/mpi/bin/mpirun --oversubscribe --bind-to none", True),
            ("mpiexec.hydra -genv A 1", True),
            ("mpiexec --host node1,node2", False),
            ("mpiexec -f hosts", False),
            ("mpirun --hostfile=hosts", False),
            ("mpirun -machinefile hosts", False),
            ("mpirun -Hnode1", False),
            ("srun --mpi=pmix", False),
        ):
            config = ClusterConfig("mpiexec", mpi=MpiOptions(tuple(command.split())))
            self.assertEqual(all_here(config, {}), here, command)
        allocated = {"SLURM_JOB_NODELIST": "node[1-4]"}
        self.assertFalse(all_here(ClusterConfig("mpirun"), allocated))

    def test_the_default_is_this_host(self) -> None:
        told = listen_here(ControllerOptions(client_port=7), NOTHING)
        self.assertEqual((told.client_ip, told.engine_ip, told.client_port), (HERE, None, 7))

    def test_who_says_where_to_listen_is_obeyed(self) -> None:
        for name, value in (
            ("client_ip", "0.0.0.0"),
            ("client_ip", ""),
            ("client_location", "login1"),
        ):
            options = ControllerOptions(**{name: value})  # type: ignore[arg-type]
            self.assertEqual(listen_here(options, NOTHING), options)
        for name in ("client_ip", "client_location"):
            settings = {**NOTHING, name: "10.0.0.1"}
            self.assertEqual(listen_here(ControllerOptions(), settings), ControllerOptions())

    def test_engines_may_have_another_place_than_clients(self) -> None:
        told = listen_here(ControllerOptions(engine_ip="10.0.0.1"), NOTHING)
        self.assertEqual((told.client_ip, told.engine_ip), (HERE, "10.0.0.1"))
        told = listen_here(ControllerOptions(engine_location="login1"), NOTHING)
        self.assertEqual((told.client_ip, told.engine_ip), (HERE, EVERYWHERE))
        told = listen_here(ControllerOptions(), {**NOTHING, "engine_ip": "10.0.0.1"})
        self.assertEqual((told.client_ip, told.engine_ip), (HERE, None))
