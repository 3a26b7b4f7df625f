"""The kind `job_queue`; its settings, reasons and verdicts are in `kind`, what it asks the database in `jobs`."""

from tocsin_probes.job_queue.kind import JobQueue

__all__ = ["JobQueue"]
