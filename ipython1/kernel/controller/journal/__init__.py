"""The journal: what the controller holds for others, so that it would still have it after its own death.

``interface`` is all that the rest of the controller knows of it.

================  ==========================================================================================
module            holds
================  ==========================================================================================
``interface``     what a journal does, its rows, and the one that keeps nothing
================  ==========================================================================================
"""
