"""Just enough of PromQL to lint it: which series an expression selects and which labels it names.

Grammar facts: https://prometheus.io/docs/prometheus/latest/querying/basics/; Grafana writes times of its own
(``$__rate_interval``, ``$__range``) where a duration stands. `promtool` remains the judge of syntax.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

_TOKEN = re.compile(
    r"""(?P<string>"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|`[^`]*`)
      | (?P<comment>\#[^\n]*)
      | (?P<variable>\$\{[^}]*\}|\$\w+)
      | (?P<duration>\d[\d.]*(?:ms|[smhdwy])(?:\d+(?:ms|[smhdwy]))*)
      | (?P<number>(?:0x[0-9a-fA-F]+|\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+))
      | (?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)
      | (?P<symbol>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}\[\],@])""",
    re.VERBOSE,
)
_DURATION = re.compile(r"0|(?:\d+y)?(?:\d+w)?(?:\d+d)?(?:\d+h)?(?:\d+m(?!s))?(?:\d+s)?(?:\d+ms)?")
_UNITS = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800, "y": 31536000}
_GROUPING = {"by", "without", "on", "ignoring", "group_left", "group_right"}
_WORDS = _GROUPING | {"and", "or", "unless", "bool", "offset", "inf", "nan", "atan2", "start", "end"}
_MATCHERS = {"=", "!=", "=~", "!~"}
_OUTERMOST = re.compile(
    r"""\s*(?:time\(\)\s*-\s*)?(?P<aggregation>absent|absent_over_time|vector|sum|min|max|avg|count|group|stddev|stdvar
      |topk|bottomk|quantile|count_values)\s*(?:(?P<clause>by|without)\s*\((?P<labels>[^)]*)\))?\s*\(""",
    re.VERBOSE,
)
_BEHIND = re.compile(r"\s*(?P<clause>by|without)\s*\((?P<labels>[^)]*)\)")

_QUERY = re.compile(r'printf\s+"((?:\\.|[^"\\])*)"[^|]*\|\s*query\b|\bquery\s+"((?:\\.|[^"\\])*)"')
"""The two forms in which a template asks Prometheus: ``printf "…" … | query`` and ``query "…"``."""


@dataclass(frozen=True, slots=True)
class Matcher:
    """One label matcher: ``operator`` is ``=``, ``!=``, ``=~`` or ``!~``; regular expressions are anchored."""

    label: str
    operator: str
    value: str

    def accepts(self, value: str) -> bool:
        if self.operator in ("=", "!="):
            return (value == self.value) is (self.operator == "=")
        pattern = _pattern(self.value)
        return pattern is not None and (pattern.fullmatch(value) is not None) is (self.operator == "=~")

    @property
    def readable(self) -> bool:
        """False for a regular expression that Python refuses. Prometheus' (RE2) are almost the same."""
        return self.operator in ("=", "!=") or _pattern(self.value) is not None


@lru_cache(maxsize=1024)
def _pattern(text: str) -> re.Pattern[str] | None:
    try:
        return re.compile(text)
    except re.error:
        return None


@dataclass(frozen=True, slots=True)
class Selector:
    """One series selector of an expression."""

    metric: str
    matchers: tuple[Matcher, ...] = ()
    window: float = 0.0
    """Seconds of its range; 0 for an instant selector, and for a range that a dashboard fills in."""

    def accepts(self, labels: Mapping[str, str]) -> bool:
        """Whether a series of this metric with ``labels`` would be selected; an absent label is empty."""
        return all(matcher.accepts(labels.get(matcher.label, "")) for matcher in self.matchers)


@dataclass(frozen=True, slots=True)
class Expression:
    """What a PromQL expression reads: its selectors, and the labels of its grouping clauses.

    ``kept``: the labels that its outermost aggregation leaves; None when it does not begin with one.
    ``constant``: it reads nothing at all.
    """

    selectors: tuple[Selector, ...]
    grouping_labels: frozenset[str]
    kept: frozenset[str] | None = None
    added: frozenset[str] = frozenset()
    """Labels that a ``group_left`` or ``group_right`` brings in, or that ``label_replace`` and ``label_join`` write."""

    @property
    def constant(self) -> bool:
        return not self.selectors


@lru_cache(maxsize=4096)
def parse(expression: str) -> Expression:
    """Reads the selectors and grouping labels. Never raises: what is not understood is passed over."""
    tokens = [
        (str(match.lastgroup), match.group())
        for match in _TOKEN.finditer(expression)
        if match.lastgroup not in ("comment", "variable")
    ]
    selectors: list[Selector] = []
    grouping: set[str] = set()
    added = set(re.findall(r'\blabel_(?:replace|join)\s*\(.*?,\s*"([a-zA-Z_]\w*)"', expression, re.DOTALL))
    index = 0
    while index < len(tokens):
        kind, text = tokens[index]
        following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
        if kind == "name" and text in _GROUPING:
            if following == "(":
                index += 2
                while index < len(tokens) and tokens[index][1] != ")":
                    if tokens[index][0] == "name":
                        grouping.add(tokens[index][1])
                        added |= {tokens[index][1]} if text.startswith("group_") else set()
                    index += 1
        elif kind == "name" and text not in _WORDS and not _is_call(tokens, index):
            matchers: tuple[Matcher, ...] = ()
            if following == "{":
                index, matchers = _matchers(tokens, index + 2)
            selectors.append(Selector(text, matchers, _window(tokens, index)))
        index += 1
    return Expression(tuple(selectors), frozenset(grouping), _kept(expression, selectors), frozenset(added))


def _kept(expression: str, selectors: list[Selector]) -> frozenset[str] | None:
    match = _OUTERMOST.match(expression)
    if match is None:
        return None
    # sum by (a) (x) may also be written sum(x) by (a)
    behind = None if match["clause"] else _BEHIND.match(expression, _closing(expression, match.end()))
    clause, names = (match["clause"], match["labels"]) if behind is None else (behind["clause"], behind["labels"])
    if clause == "without":
        return None
    if match["aggregation"].startswith("absent"):
        # https://prometheus.io/docs/prometheus/latest/querying/functions/#absent: those that are matched for equality
        return frozenset(m.label for s in selectors[:1] for m in s.matchers if m.operator == "=")
    return frozenset(re.findall(r"[a-zA-Z_][a-zA-Z0-9_]*", names or ""))


def _closing(expression: str, start: int) -> int:
    """The index behind the parenthesis that closes the one before ``start``."""
    depth = 1
    for match in _TOKEN.finditer(expression, start):
        depth += {"(": 1, ")": -1}.get(match.group(), 0)
        if depth == 0:
            return match.end()
    return len(expression)


def seconds(duration: str) -> float:
    """A duration as Prometheus writes it: ``1h30m``, ``1y``, ``0``. Raises `ValueError`."""
    if not duration or not _DURATION.fullmatch(duration):
        raise ValueError(f"{duration!r} is not a duration; write 0s, 30s, 5m, 1h30m, 7d")
    return float(sum(int(number) * _UNITS[unit] for number, unit in re.findall(r"(\d+)(ms|[smhdwy])", duration)))


def _window(tokens: list[tuple[str, str]], index: int) -> float:
    following = [text for _, text in tokens[index + 1 : index + 3]]
    if len(following) == 2 and following[0] == "[" and tokens[index + 2][0] == "duration":
        try:
            return seconds(following[1])
        except ValueError:
            return 0.0
    return 0.0


def _is_call(tokens: list[tuple[str, str]], index: int) -> bool:
    following = tokens[index + 1][1] if index + 1 < len(tokens) else ""
    return following == "(" or following in ("by", "without")


def _matchers(tokens: list[tuple[str, str]], index: int) -> tuple[int, tuple[Matcher, ...]]:
    found: list[Matcher] = []
    while index < len(tokens) and tokens[index][1] != "}":
        if tokens[index][0] == "name" and index + 2 < len(tokens) and tokens[index + 1][1] in _MATCHERS:
            found.append(Matcher(tokens[index][1], tokens[index + 1][1], _unquoted(tokens[index + 2][1])))
            index += 2
        index += 1
    return index, tuple(found)


def _unquoted(text: str) -> str:
    if text.startswith("`"):
        return text[1:-1]
    return re.sub(r"\\(.)", r"\1", text[1:-1])


def template_queries(annotation: str) -> Iterator[str]:
    """The PromQL inside ``{{ … | query }}`` of an annotation, with ``printf`` verbs as empty matches."""
    for action in re.findall(r"\{\{.*?\}\}", annotation):
        match = _QUERY.search(action)
        if match is not None:
            text = (match[1] or match[2]).replace('\\"', '"')
            yield text.replace("%q", '""').replace("%s", "")
