"""What the controller gathers for those who look: engines, work, failures, a timeline, rates.

===============  =======================================================================================
module           holds
===============  =======================================================================================
``observer``     the whole: what the controller tells it, and the answer to a question for news
``changes``      what has changed since when
``engines``      one engine: what it does, and what it did
``spans``        the timeline
``works``        tasks that do the same, counted together
``failures``     the last tasks and commands that failed
``usage``        processor time and memory of engines
``meters``       rates, and how late the process is
===============  =======================================================================================

Work and failures are always counted.  All else is gathered only while somebody looks.
"""
