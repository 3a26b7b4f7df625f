"""Prometheus 2.42 with the scrape jobs and rules of a test.

Facts: Prometheus 2.42 documentation, "Configuration", "HTTP API", "Management API".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlencode

from estate.install import ensure
from estate.ports import LOOPBACK, reserve_port
from estate.process import Server
from estate.web import answers, request


@dataclass(frozen=True)
class ScrapeJob:
    """One scrape job with fixed targets (`host:port`)."""

    name: str
    targets: tuple[str, ...]
    metrics_path: str = "/metrics"
    more: Mapping[str, Any] = field(default_factory=dict)
    """Further keys of the scrape configuration, such as `params` or `relabel_configs`."""

    def configuration(self) -> dict[str, Any]:
        return {
            "job_name": self.name,
            "metrics_path": self.metrics_path,
            "static_configs": [{"targets": list(self.targets)}],
            **self.more,
        }


class Prometheus(Server):
    """Scrapes `jobs`, evaluates the rule files `rules`, and notifies the Alertmanager at `alertmanager_url`.

    Intervals and `external_labels` are as in its configuration. The rule files are read where they lie.
    """

    name: ClassVar[str] = "prometheus"

    def __init__(
        self,
        *,
        rules: Sequence[Path] = (),
        jobs: Sequence[ScrapeJob] = (),
        alertmanager_url: str | None = None,
        scrape_interval: str = "1s",
        evaluation_interval: str = "1s",
        external_labels: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> None:
        self._binaries = ensure("prometheus")
        super().__init__()
        self.port = reserve_port()
        self.url = f"http://{LOOPBACK}:{self.port}"
        self.rule_files = list(rules)
        self.jobs = list(jobs)
        self.alertmanager_url = alertmanager_url
        self.scrape_interval = scrape_interval
        self.evaluation_interval = evaluation_interval
        self.external_labels = dict(external_labels or {})
        self.flags = tuple(flags)

    def configuration(self) -> dict[str, Any]:
        """The configuration file's content, out of the attributes as they are now."""
        made: dict[str, Any] = {
            "global": {
                "scrape_interval": self.scrape_interval,
                "scrape_timeout": self.scrape_interval,
                "evaluation_interval": self.evaluation_interval,
                "external_labels": self.external_labels,
            },
            "rule_files": [str(path.resolve()) for path in self.rule_files],
            "scrape_configs": [job.configuration() for job in self.jobs],
        }
        if self.alertmanager_url is not None:
            host = self.alertmanager_url.removeprefix("http://")
            made["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [host]}]}]}
        return made

    def write_config(self) -> Path:
        """Write the configuration file (JSON is YAML)."""
        path = self.folder / "prometheus.yml"
        path.write_text(json.dumps(self.configuration(), indent=1))
        return path

    def command(self) -> Sequence[str]:
        return [
            str(self._binaries / "prometheus"),
            f"--config.file={self.write_config()}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={LOOPBACK}:{self.port}",
            "--web.enable-lifecycle",
            "--web.enable-admin-api",
            *self.flags,
        ]

    def ready(self) -> bool:
        return answers(f"{self.url}/-/ready")

    def reload(self) -> None:
        """Write the attributes (`jobs`, `rule_files`, …) out and load them. Raises UnexpectedAnswer if refused."""
        self.write_config()
        request("POST", f"{self.url}/-/reload").expect(200)

    def query(self, expression: str, *, at: float | None = None) -> list[dict[str, Any]]:
        """An instant query's vector: `metric` and `value` of each series."""
        parameters = {"query": expression} | ({} if at is None else {"time": repr(at)})
        data = self._get(f"/api/v1/query?{urlencode(parameters)}")
        result = data["result"]
        return [{"metric": {}, "value": result}] if data["resultType"] == "scalar" else list(result)

    def value(self, expression: str) -> float | None:
        """The only value of an instant query; None for no series. Raises ValueError for several."""
        found = self.query(expression)
        if len(found) > 1:
            raise ValueError(f"{expression} has {len(found)} series")
        return float(found[0]["value"][1]) if found else None

    def alerts(self) -> list[dict[str, Any]]:
        """Pending and firing alerts: `labels`, `annotations`, `state`, `activeAt`."""
        return list(self._get("/api/v1/alerts")["alerts"])

    def firing(self) -> set[str]:
        """The names of the alerts that fire."""
        return {alert["labels"]["alertname"] for alert in self.alerts() if alert["state"] == "firing"}

    def rules(self) -> list[dict[str, Any]]:
        """The rule groups, each with its `rules` and their `health`."""
        return list(self._get("/api/v1/rules")["groups"])

    def targets(self) -> list[dict[str, Any]]:
        """The active scrape targets, each with `health` and `lastError`."""
        return list(self._get("/api/v1/targets?state=active")["activeTargets"])

    def _get(self, path: str) -> dict[str, Any]:
        data: dict[str, Any] = request("GET", f"{self.url}{path}").expect(200).json()["data"]
        return data
