"""The journal: what the controller holds for others, so that it would still have it after its own death.

``interface`` and ``rows`` are what the rest of the controller knows of it; ``journal`` opens one.

=================  ==========================================================================================
module             holds
=================  ==========================================================================================
``interface``      what a journal does, and the one that keeps nothing
``rows``           what goes into it and comes back
``journal``        the one that writes, as the reactor's thread sees it
``writer``         the thread that writes, one commit after the other, and the one that syncs
``opening``        opening a journal, checking it, setting aside a damaged one
``store``          the files of an open journal: commits, keeping house, checkpoints
``plan``           what one commit writes, and what follows from it
``partytables``    engines, clients, leases of ids, functions
``tasktables``     submissions, and the ids of finished tasks
``resulttable``    kept results of tasks
``taskreading``    reading these
``commandtables``  direct commands and their outcomes
``datacolumns``    data in rows: inline, or the name of a file
``payloads``       files of large data
``tables``         definitions of the tables, checks of their rows, migration
``marks``          how far the journal was written, independently of the database
``packing``        packed sets of ids, checksums
=================  ==========================================================================================
"""
