"""A tab "Freshness" in Locust's web interface: charts of freshness, notifications and open connections.

It uses what Locust offers: `template_args` names the tab and its table, `/stats/requests` carries the table's rows, and the Flask
application gets further routes. Locust's tabs can hold only tables. So the charts are a page of their own at `/freshness`, and a
script in Locust's page lays them over the table while the tab is open.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gevent
from flask import Response, jsonify, request, send_from_directory

from loadtests.screen.figures import Figures

KEY = "freshness"
FILES = Path(__file__).parent

ROWS = (
    ("pages open", "users", ""),
    ("pages subscribed", "listening", ""),
    ("connections", "connections", ""),
    ("notifications", "notifications", "/s"),
    ("refetches", "refetches", "/s"),
    ("failed refetches", "failed_refetches", "/s"),
    ("update to notified, p50", "time_to_notified_p50", " ms"),
    ("update to notified, p99", "time_to_notified_p99", " ms"),
    ("update to shown, p50", "time_to_fresh_p50", " ms"),
    ("update to shown, p99", "time_to_fresh_p99", " ms"),
    ("notified to shown, p50", "since_notified_p50", " ms"),
    ("notified to shown, p99", "since_notified_p99", " ms"),
)
"""Rows of the table: label, member of a point of the series, unit."""


def table(point: dict[str, float | None]) -> list[dict[str, str]]:
    """The table's rows for one *point* of the series, the latest."""
    return [{"name": label, "now": _text(point.get(member), unit)} for label, member, unit in ROWS]


def _text(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{value:,.0f}{unit}" if value >= 100 or value == int(value) else f"{value:.3g}{unit}"


def register(figures: Figures) -> None:
    """Add the tab, if there is a web interface. The series begins now."""
    web_ui = figures.environment.web_ui
    if web_ui is None or web_ui.app is None:
        return
    gevent.spawn(figures.run)
    columns = [{"key": "name", "title": "Figure"}, {"key": "now", "title": "Last two seconds"}]
    tabs: dict[str, list[Any]] = {
        "extendedTabs": [{"title": "Freshness", "key": KEY}],
        "extendedTables": [{"key": KEY, "structure": columns}],
    }
    for name, added in tabs.items():  # A locustfile may have tabs of its own.
        web_ui.template_args[name] = web_ui.template_args.get(name, []) + added
    base = f"{getattr(figures.environment.parsed_options, 'web_base_path', None) or ''}/{KEY}"

    @web_ui.app.route(base)
    @web_ui.auth_required_if_enabled
    def charts() -> Response:
        return send_from_directory(FILES, "charts.html")

    @web_ui.app.route(f"{base}/<any('tab.js', 'charts.js'):name>")
    @web_ui.auth_required_if_enabled
    def file(name: str) -> Response:
        return send_from_directory(FILES, name)

    @web_ui.app.route(f"{base}/series")
    @web_ui.auth_required_if_enabled
    def series() -> Response:
        return jsonify(list(figures.series))

    @web_ui.app.after_request
    def add(response: Response) -> Response:
        if request.path.endswith("/stats/requests") and response.is_json:
            tree: dict[str, Any] = response.get_json()
            rows = table(figures.series[-1] if figures.series else {})
            tree.setdefault("extended_stats", []).append({"key": KEY, "data": rows})
            response.set_data(json.dumps(tree))
        elif request.endpoint == "locust.index" and response.mimetype == "text/html":
            script = f'<script src="{base}/tab.js"></script></body>'
            response.set_data(response.get_data(as_text=True).replace("</body>", script))
        return response
