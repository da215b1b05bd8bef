"""The registry of engines, their queues, the client interfaces, their Foolscap faces."""
