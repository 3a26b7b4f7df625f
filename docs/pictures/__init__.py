"""Pictures of the dashboards for the documentation, without Grafana: their own queries, real data, our own drawing.

``python -m docs.pictures`` starts the practice estate, its daemon and a Prometheus, breaks things by a timetable, asks
every query of every panel, and draws the panels where the dashboard has them. Headless Chromium makes the PNG files.
"""
