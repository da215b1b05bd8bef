"""A soak: a real cluster under mixed load, with random kills and stops of all its processes, and an audit at the end.

==========  ==============================================================================================
module      holds
==========  ==============================================================================================
``user``    a user's process: tasks, commands, maps and large objects, each noted when it is made, when it is
            acknowledged and when it has an outcome
``notes``   these notes, and those that the engines leave of every run
``killer``  kills and stops processes, by a seed
``audit``   compares the notes: what was acknowledged has exactly one outcome, and ran once at most
==========  ==============================================================================================
"""
