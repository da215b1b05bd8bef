"""The benchmark: this kernel and its peers at the same work, in one run; see ``scripts/benchmark``.

A *contestant* is an adapter: how one system does each piece of work in its own best usual way.  The work and the clock
are the same for all of them.  Each contestant runs in processes and a virtual environment of its own; all take part in
every round, one after the other, so that a change in the machine's speed meets all of them.

================  ====================================================================================
module            holds
================  ====================================================================================
``rows``          what is measured: names, units, goals
``work``          the functions and objects that are sent around
``meters``        processor time, instructions and memory of processes
``workload``      a contestant's interface, and the measuring of its rows
``contestants``   the adapters, this kernel's among them
``contestant``    the program that measures one contestant
``environments``  the peers' virtual environments, and how their programs are started
``rounds``        runs contestants in turn, within a time
``results``       samples, their medians and quartiles, and their JSON
``report``        text for a terminal, and the comparison with an earlier run
``document``      the generated part of the documentation
``plots``         its pictures
``scale``         many light engines on one controller
``million``       a million tasks
``costs``         what the journal costs
``watched``       what it costs to be looked at
``journal``       the journal alone
``codec``         one message in the codecs
================  ====================================================================================
"""
