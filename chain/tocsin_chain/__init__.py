"""The hash-chain walk: canonical forms, verification, high-water marks, evidence of a break."""
