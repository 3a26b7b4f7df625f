"""Grafana dashboards: made from code, committed as JSON. ``generate`` writes them."""
