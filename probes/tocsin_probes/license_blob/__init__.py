"""`license_blob`: the kind in `kind`, what it reads in `signed`."""

from tocsin_probes.license_blob.kind import LicenseBlob

__all__ = ["LicenseBlob"]
