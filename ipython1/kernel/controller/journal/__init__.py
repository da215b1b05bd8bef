"""The journal: what the controller holds for others, so that it would still have it after its own death.

``interface`` and ``rows`` are all that the rest of the controller knows of it.

================  ==========================================================================================
module            holds
================  ==========================================================================================
``interface``     what a journal does, and the one that keeps nothing
``rows``          what goes into it and comes back
================  ==========================================================================================
"""
