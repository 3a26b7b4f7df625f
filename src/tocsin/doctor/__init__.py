"""Proposes settings that a platform does not publish, from one read-only look at it."""
