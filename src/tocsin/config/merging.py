"""Layers of one mapping laid over each other: a profile's probe, and what the user changes of it."""

from __future__ import annotations

from collections.abc import Iterable

from tocsin.config.document import Located


def merge(layers: Iterable[Located]) -> Located | None:
    """The layers as one, later ones over earlier ones; None without any.

    Mappings merge key by key, anything else is replaced. ``null`` over an earlier key takes that key away.
    A layer that names another ``kind`` starts afresh: the settings of one kind mean nothing to another.
    """
    merged: Located | None = None
    for layer in layers:
        merged = layer if merged is None or _other_kind(merged, layer) else _over(merged, layer)
    return merged


def _over(base: Located, layer: Located) -> Located:
    if not (isinstance(base.value, dict) and isinstance(layer.value, dict)):
        return layer
    entries = dict(base.value)
    for name, value in layer.value.items():
        if name not in entries:
            entries[name] = value
        elif value.value is None:
            del entries[name]
        else:
            entries[name] = _over(entries[name], value)
    return Located(entries, base.at, base.key)


def _other_kind(base: Located, layer: Located) -> bool:
    before, now = base.mapping.get("kind"), layer.mapping.get("kind")
    return before is not None and now is not None and before.value != now.value
