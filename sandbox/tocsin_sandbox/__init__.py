"""The embedded practice estate: small servers that can be made to fail on purpose. Needs only what pip brings.

`estate` starts them all, `faults` is the catalogue of what can be broken, `switches` is the page and the API that
break and heal, `session` is one run of ``tocsin sandbox``. Only ``tocsin.cli`` imports this package, and lazily.
"""
