"""What others read: metrics, the HTTP server, the status page, the runbook pages."""
