"""A deterministic simulator: a whole cluster on a virtual clock, in which everything may break at every step.

The controller, the ends of the links of engines and clients, and the worker of each engine are the real ones.  Network,
disk, processes and time are pretended.  One seed is one history: the same parties do the same things, and the same
things break at the same moments.  ``scripts/simulate`` runs many; a history that breaks a promise is printed.

==============  ========================================================================================
module          holds
==============  ========================================================================================
``time``        the clock
``process``     a process that can be killed and frozen, and the main thread of an engine
``network``     links that can be cut at every frame, and that are slow
``disk``        a journal in memory, of which a crash loses what was not yet safe
``parties``     the controller, engines and clients
``oracle``      what must be true after every step, and in the end
``history``     what the users do and what breaks, by a seed
``plants``      bugs, planted to see that they are found
==============  ========================================================================================
"""
