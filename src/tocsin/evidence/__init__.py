"""Bundles for the incident record."""
