"""tocsin: a semantic health prober. The engine; it knows no platform and no protocol of one."""

__version__ = "0.1.0"
