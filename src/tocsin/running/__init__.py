"""One run from its due time to its confirmed outcome: schedule, permits, runner, confirmation, causes, heartbeat."""
