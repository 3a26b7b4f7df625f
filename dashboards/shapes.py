"""The few shapes that all dashboards are made of: queries, panels, variables, annotations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import common, stat, statetimeline, table, timeseries
from grafana_foundation_sdk.builders import dashboard as board
from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import common as c
from grafana_foundation_sdk.models import dashboard as d
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = d.DataSourceRef("prometheus", "${datasource}")
"""Whichever Prometheus the reader picks: no dashboard names one."""

TAG = "tocsin"
GREEN, YELLOW, RED, GREY = "green", "yellow", "red", "text"

PLACE = 'cluster=~"$cluster", environment=~"$environment"'
"""Which of several platforms. Prometheus that watch one alone need have neither label: then any value fits."""

RUN = "cluster, environment, instance, job, probe"
"""What tells the replicas of a probe apart."""

WHO = "cluster, environment, probe"
"""What tells probes apart."""

_METRIC = re.compile(r'(?<![\w:"])(tocsin[a-z_:]+)(\{)?')

Row = board.Row
Panel = board.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel

STATUS_TEXT: list[d.ValueMapping] = [
    d.ValueMap(
        {
            "0": d.ValueMappingResult("ok", GREEN, index=0),
            "1": d.ValueMappingResult("unknown", YELLOW, index=1),
            "2": d.ValueMappingResult("failed", RED, index=2),
        }
    )
]
"""How the number of a status query (`status_of`) reads."""

PRESENT_TEXT: list[d.ValueMapping] = [d.ValueMap({"1": d.ValueMappingResult("yes", RED, index=0)})]


def placed(expr: str) -> str:
    """The same of the chosen clusters and environments alone, in every selector."""
    return _METRIC.sub(lambda metric: f"{metric[1]}{{{PLACE}" + (", " if metric[2] else "}"), expr)


def status_of(selector: str, by: str = "probe") -> str:
    """0 ok, 1 unknown, 2 failed: the worst over replicas."""
    return (
        f'max by ({by}) (2 * tocsin_probe_status{{{selector}, status="failed"}} '
        f'or tocsin_probe_status{{{selector}, status="unknown"}})'
    )


def of_system(metric: str, selector: str = 'system="$system"') -> str:
    """A metric that knows its probe alone, for the probes of one system: joined within each replica."""
    return f'({metric} and on ({RUN}) tocsin_probe_status{{{selector}, status="ok"}})'


def worst(metric: str, *labels: str) -> str:
    """The highest over replicas, for each probe of the chosen system and these labels."""
    return f"max by ({', '.join(('probe', *labels))}) {of_system(metric)}"


def least(metric: str, *labels: str) -> str:
    """The lowest over replicas, for each probe of the chosen system and these labels."""
    return f"min by ({', '.join(('probe', *labels))}) {of_system(metric)}"


def query(expr: str, legend: str = "", *, ref: str = "A") -> Dataquery:
    """A query over the dashboard's time range."""
    return Dataquery().expr(placed(expr)).legend_format(legend).ref_id(ref).range().datasource(SOURCE)


def moment(expr: str, legend: str = "", *, ref: str = "A", as_table: bool = False) -> Dataquery:
    """A query of what is now."""
    made = Dataquery().expr(placed(expr)).legend_format(legend).ref_id(ref).instant().datasource(SOURCE)
    return made.format(PromQueryFormat.TABLE) if as_table else made


def limits(*steps: tuple[float | None, str]) -> board.ThresholdsConfig:
    """Colours from values on; the first has no value."""
    return (
        board.ThresholdsConfig()
        .mode(d.ThresholdsMode.ABSOLUTE)
        .steps([d.Threshold(value, colour) for value, colour in steps])
    )


def number(
    title: str,
    about: str,
    expr: str,
    *,
    bad_from: float | None = None,
    unit: str = "short",
    span: int = 4,
    colour: str = RED,
    mappings: Sequence[d.ValueMapping] = (),
) -> stat.Panel:
    """One number of now, coloured from ``bad_from`` on."""
    steps = limits((None, GREEN), (bad_from, colour)) if bad_from is not None else limits((None, GREY))
    return (
        stat.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(moment(expr))
        .unit(unit)
        .mappings(list(mappings))
        .thresholds(steps)
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.THRESHOLDS))
        .graph_mode(c.BigValueGraphMode.NONE)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .height(4)
        .span(span)
    )


def text_of(title: str, about: str, expr: str, legend: str, *, span: int = 4) -> stat.Panel:
    """A label of a series of now, shown as text."""
    return (
        number(title, about, expr, span=span)
        .targets([moment(expr, legend)])
        .text_mode(c.BigValueTextMode.NAME)
        .no_value("none")
    )


def curve(
    title: str,
    about: str,
    *queries: Dataquery,
    unit: str = "short",
    span: int = 12,
    signed: bool = False,
    fill: int = 8,
) -> timeseries.Panel:
    """Values over time, on an axis that begins at zero unless they are ``signed``. ``fill``: of the area, in percent;
    0 where there may be very many."""
    panel = (
        timeseries.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .unit(unit)
        .line_width(1)
        .fill_opacity(fill)
        .show_points(c.VisibilityMode.NEVER)
        .legend(common.VizLegendOptions().display_mode(c.LegendDisplayMode.LIST).placement(c.LegendPlacement.BOTTOM))
        .tooltip(common.VizTooltipOptions().mode(c.TooltipDisplayMode.MULTI).sort(c.SortOrder.DESCENDING))
        .height(8)
        .span(span)
    )
    if not signed:
        panel = panel.min(0)
    for one in queries:
        panel = panel.with_target(one)
    return panel


def history(
    title: str, about: str, target: Dataquery, mappings: Sequence[d.ValueMapping], *, height: int = 8, span: int = 24
) -> statetimeline.Panel:
    """States over time, one lane a series."""
    return (
        statetimeline.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(target)
        .mappings(list(mappings))
        .color_scheme(board.FieldColor().mode(d.FieldColorModeId.FIXED).fixed_color(GREY))
        .merge_values(True)
        .show_value(c.VisibilityMode.NEVER)
        .row_height(0.8)
        .fill_opacity(80)
        .line_width(0)
        .height(height)
        .span(span)
    )


def listing(
    title: str,
    about: str,
    expr: str,
    columns: Sequence[str],
    *,
    value: str | None = None,
    unit: str = "short",
    mappings: Sequence[d.ValueMapping] = (),
    sort: str = "",
    height: int = 8,
    span: int = 24,
) -> table.Panel:
    """What is now, one row a series: these labels, then the value under the name ``value`` if it has one, and by
    ``sort`` the column whose lowest comes first."""
    order = {name: index for index, name in enumerate([*columns, "Value"])}
    hidden = {"Time": True, **({} if value else {"Value": True})}
    panel = (
        table.Panel()
        .title(title)
        .description(about)
        .datasource(SOURCE)
        .with_target(moment(expr, as_table=True))
        .unit(unit)
        .mappings(list(mappings))
        .show_header(True)
        .with_transformation(
            d.DataTransformerConfig(
                "organize",
                options={
                    "excludeByName": hidden,
                    "indexByName": order,
                    "renameByName": {"Value": value} if value else {},
                },
            )
        )
        .no_value("nothing")
        .height(height)
        .span(span)
    )
    if sort:
        panel = panel.sort_by([common.TableSortByFieldState().display_name(sort).desc(False)])
    if "probe" in columns:
        link = {
            "title": "This probe",
            "url": "/d/tocsin-probe?var-probe=${__data.fields.probe}"
            "&${datasource:queryparam}&${cluster:queryparam}&${environment:queryparam}&${__url_time_range}",
        }
        panel = panel.override_by_name("probe", [d.DynamicConfigValue("links", [link])])
    return panel


def row(title: str) -> board.Row:
    """A heading between panels."""
    return board.Row(title)


def datasource() -> board.DatasourceVariable:
    """The choice of the Prometheus that scrapes tocsin."""
    return board.DatasourceVariable("datasource").label("Prometheus").type("prometheus")


def choice(name: str, label: str, values: str, *, several: bool = False) -> board.QueryVariable:
    """A variable whose values come from ``label_values(…)``."""
    made = (
        board.QueryVariable(name)
        .label(label)
        .datasource(SOURCE)
        .query({"query": values, "refId": f"variable-{name}"})
        .refresh(d.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(d.VariableSort.ALPHABETICAL_ASC)
        .multi(several)
        .include_all(several)
    )
    if not several:
        return made
    return made.all_value(".*").current(d.VariableOption(text="All", value="$__all"))


def places() -> list[board.QueryVariable]:
    """The choice of clusters and environments, for a Prometheus that holds several platforms; else both are empty."""
    among = 'tocsin_build_info{cluster=~"$cluster"}'
    return [
        choice("cluster", "Cluster", "label_values(tocsin_build_info, cluster)", several=True),
        choice("environment", "Environment", f"label_values({among}, environment)", several=True),
    ]


def mark(name: str, expr: str, colour: str) -> board.AnnotationQuery:
    """Annotations out of a query; how each reads is in `MARKS`."""
    return board.AnnotationQuery().name(name).datasource(SOURCE).enable(True).icon_color(colour).expr(placed(expr))


ALERTING, CHANGE = "alerting", "change of status"
MARKS: Mapping[str, Mapping[str, object]] = {
    ALERTING: {"titleFormat": "{{probe}} alerts", "tagKeys": "severity,incident", "step": "15s"},
    # The series' value is the time of the event, in milliseconds.
    CHANGE: {
        "titleFormat": "{{probe}} is {{status}}",
        "tagKeys": "incident",
        "useValueForTime": "on",
        "step": "15s",
    },
}
"""Options of Prometheus annotations that the SDK has no words for (Grafana: "Annotate visualizations")."""


def transitions(selector: str) -> list[board.AnnotationQuery]:
    """Annotations of the probes selected: while one alerts, and each change of a confirmed status."""
    who = "cluster, environment, incident, probe, status"
    changes = (
        f"1000 * max by ({who}) ((tocsin_probe_status{{{selector}}} == 1) "
        f"* on ({RUN}) group_left () tocsin_probe_status_since_timestamp_seconds)"
    )
    return [
        mark(ALERTING, f"tocsin:probe_alerting{{{selector}}} == 1", "red"),
        mark(CHANGE, changes, "blue"),
    ]


def dashboard(
    uid: str,
    title: str,
    about: str,
    variables: Sequence[board.QueryVariable],
    panels: Sequence[Panel | board.Row],
    annotations: Sequence[board.AnnotationQuery] = (),
    *,
    since: str = "now-3h",
) -> board.Dashboard:
    """A dashboard with the datasource first among its variables, and a link to its siblings."""
    made = (
        board.Dashboard(title)
        .uid(uid)
        .description(about)
        .tags([TAG])
        .timezone("browser")
        .time(since, "now")
        .refresh("30s")
        .readonly()
        .tooltip(d.DashboardCursorSync.CROSSHAIR)
        .variables([datasource(), *places(), *variables])
        .annotations(list(annotations))
        .link(
            board.DashboardLink(TAG)
            .type(d.DashboardLinkType.DASHBOARDS)
            .tags([TAG])
            .as_dropdown(True)
            .keep_time(True)
            .include_vars(False)
        )
    )
    for panel in panels:
        made = made.with_row(panel) if isinstance(panel, board.Row) else made.with_panel(panel)
    return made
