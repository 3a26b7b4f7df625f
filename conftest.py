"""Registers the plugin that lends tests the real servers; pytest takes it only from the root."""

pytest_plugins = ["tests.fixtures_estate"]
