"""What others read: metrics, the HTTP server, the status page, the runbook pages."""

from tocsin.exposing.documents import probe_document, run_document
from tocsin.exposing.families import CatalogueEntry, catalogue
from tocsin.exposing.server import WebServer
from tocsin.exposing.site import Health, Histogram, ReloadResult, SelfFacts, Site

__all__ = [
    "CatalogueEntry",
    "Health",
    "Histogram",
    "ReloadResult",
    "SelfFacts",
    "Site",
    "WebServer",
    "catalogue",
    "probe_document",
    "run_document",
]
