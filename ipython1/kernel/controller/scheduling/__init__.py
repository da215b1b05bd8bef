"""The scheduler of the task interface: a state machine without I/O.

Events are method calls on :class:`~ipython1.kernel.controller.scheduling.machine.TaskMachine`, with the time passed
in; what is to be done about them comes out as a list of instructions (see ``instructions``).

================  ==========================================================================================
module            holds
================  ==========================================================================================
``machine``       the events of tasks and engines, and the one hot path: submit, assign, result
``clients``       the events of clients: coming and going, results delivered, confirmed and fetched
``seams``         what the machine and its policies know of each other
``records``       what is known of a task, an engine, a client
``instructions``  what the machine asks its shell to do
``queues``        tasks waiting, in the order of a scheduler, grouped by what constrains them
``predecessors``  tasks that wait for other tasks, and what becomes of them when these end
``following``     where tasks run that follow others: where one of these ran
``places``        where the last tasks ran
``causes``        why a task is not run, for people
``reports``       what engines tell of their runs besides results
``assigners``     which engine gets which task: in bulk, or by a user's scheduler one by one
``prefetch``      how much an engine is given ahead: measured durations
``balance``       what an idle engine takes back from a busy one
``faults``        retries, recovery tasks, blame, quarantine, aborts, timeouts
``dependencies``  which engines the tasks may run on, for all that these have answered
``retention``     finished tasks: what is kept, for how long, and who was told
``accounts``      clients: leased ids, credits, what was submitted before
``timers``        what is to happen later
``invariants``    what must hold after every event (for tests, and for the story of a failure)
================  ==========================================================================================
"""
