"""The embedded practice estate: small servers that can be made to fail on purpose."""
