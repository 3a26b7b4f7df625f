"""The commands, each a thin call into a room."""
