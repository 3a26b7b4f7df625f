"""The bundled probe kinds, one module a kind."""
