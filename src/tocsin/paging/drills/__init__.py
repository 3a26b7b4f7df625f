"""Drills: a fault is caused on purpose, and exactly the right page must come, at the right section, and go again.

`catalogue` reads the drills as data, `judging` says whether what rang was right, `grouping` which drills may run at
once, `rehearsing` takes them through cause, page, repair and resolve, `reporting` tells how it went. Who breaks things
and who hears what rings is given: the sandbox, a real estate, or an operator at a staging platform (`live`).
"""
