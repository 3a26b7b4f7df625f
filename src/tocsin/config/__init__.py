"""Files and environment become validated specs: strict YAML, interpolation, profiles, registry, diff."""
