"""The controller: the registry of engines, their queues, the client interfaces, and their Foolscap faces."""
