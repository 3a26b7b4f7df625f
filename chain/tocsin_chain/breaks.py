"""From fragments to breaks: one edit is one break, told apart by where the loose ends lead.

The fragments of a walk are nodes; an edge leads from the row that holds a MAC to the fragment that names it as its
previous one. An untouched chain is one node that begins at the genesis value.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from tocsin_chain.fragments import BadRun, Fragment, Key, Summary


class BreakKind(StrEnum):
    """What happened to a chain, as far as its rows, and what is remembered of them, tell."""

    MODIFIED = "modified"
    GAP = "gap"
    REORDERED = "reordered"
    DUPLICATED = "duplicated"
    HEAD_TRUNCATED = "head_truncated"
    TAIL_TRUNCATED = "tail_truncated"
    ROLLED_BACK = "rolled_back"
    FORKED = "forked"
    KEY_UNKNOWN = "key_unknown"


@dataclass(frozen=True, slots=True)
class Break:
    """One break. ``first`` and ``last``: the affected rows (for a gap, the row after it; for a truncation, the row
    that is left next to it, or the first one known to be missing). ``rows``: how many are affected, 0 when they are
    gone and cannot be counted. ``before``: the last good row before it."""

    kind: BreakKind
    first: Key
    last: Key
    rows: int
    first_time: float | None = None
    last_time: float | None = None
    before: Key | None = None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a row with a given MAC stands: its ordinal in the walk, its key, and the key of the row after it."""

    ordinal: int
    key: Key
    next: Key | None = None


def classify(
    summary: Summary,
    index: Mapping[bytes, Sequence[Place]],
    genesis: bytes,
    *,
    trusted: int | None = None,
    pruned: bool = False,
) -> list[Break]:
    """All breaks of a walk, in order.

    ``index``: the places, in order, of all rows that carry one of the `wanted` MACs. ``trusted``: the ordinal of a
    row known from outside to be genuine; of two branches the one that holds it is the chain. ``pruned``: a missing
    head is legitimate.
    """
    if not summary.fragments:
        return []
    return _Graph(summary, index, genesis, trusted, pruned).breaks()


def wanted(summary: Summary) -> set[bytes]:
    """The MACs whose places `classify` needs; none for a whole chain."""
    if len(summary.fragments) < 2:
        return set()
    return {mac for fragment in summary.fragments for mac in (fragment.previous, fragment.first_mac, fragment.last_mac)}


@dataclass(slots=True)
class _Node:
    fragment: Fragment
    parent: _Node | None = None
    children: list[_Node] = field(default_factory=list)
    weight: int = 0

    @property
    def start(self) -> int:
        return self.fragment.start


class _Graph:
    def __init__(
        self,
        summary: Summary,
        index: Mapping[bytes, Sequence[Place]],
        genesis: bytes,
        trusted: int | None,
        pruned: bool,
    ) -> None:
        self.index = index
        self.genesis = genesis
        self.trusted = trusted
        self.pruned = pruned
        self.bad = summary.bad
        self.found: list[Break] = []
        self.explained: list[tuple[int, int]] = []
        """Ordinals whose bad rows are already told by another break."""
        self.glued: set[int] = set()
        """Starts of fragments whose loose end a modified row explains: they follow the row before them."""
        self.nodes = [_Node(fragment) for fragment in summary.fragments]

    def breaks(self) -> list[Break]:
        self._take_duplicates()
        self._glue_modified()
        self._split_at_parents()
        self._connect()
        paths = self._main_paths()
        self._judge_order(paths)
        self._judge_roots(paths)
        self.found += [
            Break(
                BreakKind.KEY_UNKNOWN if run.unknown_key else BreakKind.MODIFIED,
                run.first,
                run.last,
                run.rows,
                run.first_time,
                run.last_time,
            )
            for run in self.bad
            if not self._explained(run)
        ]
        return sorted(self.found, key=_position)

    def _explained(self, run: BadRun) -> bool:
        """Whether other breaks already tell of all rows of a run."""
        at = run.start
        for start, end in sorted(self.explained):
            if start <= at <= end:
                at = end + 1
        return at > run.end

    def _places(self, mac: bytes) -> Sequence[Place]:
        return self.index.get(mac, ())

    def _bad_at(self, ordinal: int) -> bool:
        at = bisect_right(self.bad, ordinal, key=lambda run: run.start) - 1
        return at >= 0 and self.bad[at].covers(ordinal)

    def _take_duplicates(self) -> None:
        """A fragment whose first row is also elsewhere is a copy, up to where the chain itself goes on."""
        kept = self.nodes[:1]
        for node in self.nodes[1:]:
            fragment = node.fragment
            copies = [place for place in self._places(fragment.first_mac) if place.ordinal != fragment.start]
            if not copies:
                kept.append(node)
                continue
            end, last = fragment.end, fragment.last
            before = kept[-1].fragment
            rest: Fragment | None = None
            for place in self._places(before.last_mac):
                if fragment.start <= place.ordinal < fragment.end:
                    end, last = place.ordinal, place.key
                    rest = _after(fragment, place, before.last_mac)
            self.found.append(
                Break(
                    BreakKind.DUPLICATED,
                    fragment.first,
                    last,
                    end - fragment.start + 1,
                    fragment.first_time,
                    fragment.last_time,
                    before.last,
                )
            )
            self.explained.append((fragment.start, end))
            if rest is not None:
                kept.append(_Node(rest))
        self.nodes = kept

    def _glue_modified(self) -> None:
        """A loose end next to a modified row is that modification, not a second break."""
        kept = self.nodes[:1]
        for node in self.nodes[1:]:
            before, fragment = kept[-1].fragment, node.fragment
            known = [place.ordinal for place in self._places(fragment.previous)]
            own_fault = self._bad_at(fragment.start) and not self._links_elsewhere(node)
            loose = self._bad_at(before.end) and not self._links_elsewhere(kept[-1])
            if own_fault or (loose and (not known or self._bypassed(known, before))):
                self.glued.add(fragment.start)
            kept.append(node)
        self.nodes = kept

    def _links_elsewhere(self, node: _Node) -> bool:
        """Whether a fragment that begins with a bad row was displaced as a whole: both its ends lead somewhere."""
        before = self._places(node.fragment.previous)
        after = any(other.fragment.previous == node.fragment.last_mac for other in self.nodes if other is not node)
        return bool(before) and after

    def _bypassed(self, known: list[int], before: Fragment) -> bool:
        """Whether all rows between a named predecessor and this place are bad: rows put in between."""
        start = max((ordinal for ordinal in known if ordinal <= before.end), default=None)
        if start is None:
            return False
        return before.end - start <= MAX_BYPASS and all(self._bad_at(at) for at in range(start + 1, before.end + 1))

    def _split_at_parents(self) -> None:
        """Cuts fragments behind every row that another fragment names, so that edges lead from ends to starts."""
        cuts = sorted(
            (
                (place.ordinal, node.fragment.previous, place)
                for node in self.nodes
                if node.start not in self.glued
                for place in self._places(node.fragment.previous)
            ),
            key=lambda cut: cut[0],
        )
        pieces: list[_Node] = []
        for node in self.nodes:
            fragment = node.fragment
            at = bisect_left(cuts, fragment.start, key=lambda cut: cut[0])
            for ordinal, mac, place in cuts[at:]:
                if ordinal >= fragment.end:
                    break
                if ordinal >= fragment.start:
                    head = replace(fragment, rows=ordinal - fragment.start + 1, last=place.key, last_mac=mac)
                    pieces.append(_Node(head))
                    fragment = _after(fragment, place, mac)
            pieces.append(_Node(fragment))
        self.nodes = pieces

    def _connect(self) -> None:
        ends = {node.fragment.end: node for node in self.nodes}
        for position, node in enumerate(self.nodes):
            if node.start in self.glued:
                node.parent = self.nodes[position - 1]
            elif node.fragment.previous != self.genesis:
                places = self._places(node.fragment.previous)
                node.parent = next((ends[place.ordinal] for place in places if place.ordinal in ends), None)
            if node.parent is not None and _descends(node.parent, node):
                node.parent = None
            if node.parent is not None:
                node.parent.children.append(node)

    def _main_paths(self) -> list[list[_Node]]:
        """From every root the heaviest path; branches beside it are forks."""
        roots = [node for node in self.nodes if node.parent is None]
        for root in roots:
            self._weigh(root)
        starts = [root for root in roots if root.fragment.previous == self.genesis]
        if len(starts) > 1:
            main = max(starts, key=lambda root: (root.weight, -root.start))
            for root in starts:
                if root is not main:
                    self._fork(root)
                    roots.remove(root)
        paths = []
        for root in roots:
            path = [root]
            while path[-1].children:
                children = path[-1].children
                main = max(children, key=lambda child: (child.weight, -child.start))
                for child in children:
                    if child is not main:
                        self._fork(child)
                path.append(main)
            paths.append(path)
        return self._without_strays(sorted(paths, key=lambda path: min(node.start for node in path)))

    def _without_strays(self, paths: list[list[_Node]]) -> list[list[_Node]]:
        """Sets aside what stands beside the chain: rows that follow nothing and that the chain goes on past."""
        main = next((path for path in paths if path[0].fragment.previous == self.genesis), paths[0])
        kept = [main]
        end = max(node.fragment.end for node in main)
        for path in paths:
            if path is main:
                continue
            start = min(node.start for node in path)
            beyond = sum(node.fragment.rows for other in kept for node in other if node.start > start)
            if start < end and path[0].weight <= beyond:
                self._fork(path[0])
            else:
                kept.append(path)
                end = max(end, *(node.fragment.end for node in path))
        return sorted(kept, key=lambda path: min(node.start for node in path))

    def _weigh(self, root: _Node) -> None:
        order = [root]
        for node in order:
            order.extend(node.children)
        for node in reversed(order):
            own = node.fragment.rows
            if self.trusted is not None and node.start <= self.trusted <= node.fragment.end:
                own += TRUSTED_WEIGHT
            node.weight = own + sum(child.weight for child in node.children)

    def _fork(self, branch: _Node) -> None:
        nodes = [branch]
        for node in nodes:
            nodes.extend(node.children)
        first = min(nodes, key=lambda node: node.start)
        last = max(nodes, key=lambda node: node.start)
        self.found.append(
            Break(
                BreakKind.FORKED,
                first.fragment.first,
                last.fragment.last,
                sum(node.fragment.rows for node in nodes),
                first.fragment.first_time,
                last.fragment.last_time,
                branch.parent.fragment.last if branch.parent else None,
            )
        )

    def _judge_order(self, paths: list[list[_Node]]) -> None:
        chain = [node for path in paths for node in path]
        by_place = sorted(chain, key=lambda node: node.start)
        rank = {id(node): position for position, node in enumerate(by_place)}
        sequence = [rank[id(node)] for node in chain]
        begin, highest = 0, -1
        for position, value in enumerate(sequence):
            highest = max(highest, value)
            if highest == position:
                if position > begin:
                    self._reordered(by_place[begin : position + 1], sequence[begin : position + 1])
                begin = position + 1

    def _reordered(self, block: list[_Node], sequence: list[int]) -> None:
        """``block``: the nodes of one tangle by place; ``sequence``: their ranks in the order of the links."""
        base = min(sequence)
        stay = _heaviest_increasing([(value - base, block[value - base].fragment.rows) for value in sequence])
        moved = [node for rank, node in enumerate(block) if rank not in stay]
        first, last = moved[0].fragment, moved[-1].fragment
        self.found.append(
            Break(
                BreakKind.REORDERED,
                block[0].fragment.first,
                block[-1].fragment.last,
                sum(node.fragment.rows for node in moved),
                first.first_time,
                last.last_time,
            )
        )
        for node in (*moved, block[0], block[-1]):
            self.explained.append((node.start, node.fragment.end))

    def _judge_roots(self, paths: list[list[_Node]]) -> None:
        has_genesis = any(path[0].fragment.previous == self.genesis for path in paths)
        for position, path in enumerate(paths):
            root = path[0].fragment
            if root.previous == self.genesis:
                continue
            if position == 0 and not has_genesis and not self._bad_at(root.start):
                if not self.pruned:
                    self.found.append(
                        Break(BreakKind.HEAD_TRUNCATED, root.first, root.first, 0, root.first_time, root.first_time)
                    )
            elif position or has_genesis:
                before = max(
                    (node.fragment for node in self.nodes if node.fragment.end < root.start),
                    key=lambda fragment: fragment.end,
                    default=None,
                )
                self.found.append(
                    Break(
                        BreakKind.GAP,
                        root.first,
                        root.first,
                        0,
                        before.last_time if before else root.first_time,
                        root.first_time,
                        before.last if before else None,
                    )
                )


MAX_BYPASS = 10_000
TRUSTED_WEIGHT = 1 << 60


def _after(fragment: Fragment, place: Place, previous: bytes) -> Fragment:
    """What is left of a fragment behind one of its rows."""
    return replace(
        fragment,
        start=place.ordinal + 1,
        rows=fragment.end - place.ordinal,
        first=place.next or place.key,
        previous=previous,
        first_mac=b"",
    )


def _position(found: Break) -> tuple[object, ...]:
    return (*found.first,)


def _descends(node: _Node, ancestor: _Node) -> bool:
    current: _Node | None = node
    while current is not None:
        if current is ancestor:
            return True
        current = current.parent
    return False


def _heaviest_increasing(items: list[tuple[int, int]]) -> set[int]:
    """The values of the increasing subsequence with the largest weight; ``items`` are (value, weight)."""
    best: list[tuple[int, int]] = []
    for value, weight in items:
        before = max(((total, at) for at, (total, _) in enumerate(best) if items[at][0] < value), default=(0, -1))
        best.append((before[0] + weight, before[1]))
    chosen: set[int] = set()
    at = max(range(len(best)), key=lambda position: best[position][0], default=-1)
    while at >= 0:
        chosen.add(items[at][0])
        at = best[at][1]
    return chosen
