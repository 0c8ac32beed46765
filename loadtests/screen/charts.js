// Line charts of /freshness/series, drawn anew every two seconds.
"use strict";
if (new URLSearchParams(location.search).get("theme") === "dark") document.documentElement.classList.add("dark");

const CHARTS = [
  { title: "Update to shown", unit: "ms", note: "from when an update was intended to the refetch that shows it; needs payloads that say when",
    lines: [["time_to_fresh_p50", "p50", "#15803d"], ["time_to_fresh_p95", "p95", "#d97706"], ["time_to_fresh_p99", "p99", "#dc2626"]] },
  { title: "Notified to shown", unit: "ms", note: "from the arrival of a notification to the refetch that shows it",
    lines: [["since_notified_p50", "p50", "#15803d"], ["since_notified_p95", "p95", "#d97706"], ["since_notified_p99", "p99", "#dc2626"]] },
  { title: "Notifications and refetches", unit: "/s", note: "arrivals and answers, all pages",
    lines: [["notifications", "notifications", "#2563eb"], ["refetches", "refetches", "#15803d"], ["failed_refetches", "failed", "#dc2626"]] },
  { title: "Pages and connections", unit: "", note: "pages subscribed to all of their channels; sockets, those of refetches among them",
    lines: [["users", "pages", "#64748b"], ["listening", "subscribed", "#15803d"], ["connections", "connections", "#2563eb"]] },
];
const WIDTH = 1000, HEIGHT = 200, LEFT = 56, BOTTOM = 18, TOP = 6;

const nice = (value) => {
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].find((step) => step * power >= value) * power;
};
const text = (value) => (value >= 1000 ? Math.round(value).toLocaleString("en") : String(+value.toPrecision(3)));

function draw(chart, points) {
  const values = points.flatMap((point) => chart.lines.map(([name]) => point[name])).filter((value) => value != null);
  const top = nice(Math.max(...values, 1e-3)), first = points[0].at, span = Math.max(points.at(-1).at - first, 1);
  const x = (at) => LEFT + ((at - first) / span) * (WIDTH - LEFT - 8);
  const y = (value) => HEIGHT - BOTTOM - (value / top) * (HEIGHT - BOTTOM - TOP);
  const grid = [0, 0.5, 1].map((share) => `<line class="grid" x1="${LEFT}" x2="${WIDTH - 8}" y1="${y(top * share)}" y2="${y(top * share)}"/>
    <text x="${LEFT - 6}" y="${y(top * share) + 4}" text-anchor="end">${values.length ? text(top * share) : ""}</text>`);
  if (!values.length) grid.push(`<text x="${WIDTH / 2}" y="${y(top / 2) - 6}" text-anchor="middle">nothing so far</text>`);
  const ends = [[LEFT, "start", first], [WIDTH - 8, "end", points.at(-1).at]].map(([place, anchor, at]) =>
    `<text x="${place}" y="${HEIGHT - 3}" text-anchor="${anchor}">${new Date(at * 1000).toLocaleTimeString()}</text>`);
  const lines = chart.lines.map(([name, , ink]) => {
    let pen = "M", path = "";
    for (const point of points) {
      if (point[name] == null) { pen = "M"; continue; }  // Nothing happened: a gap, never a zero.
      path += `${pen}${x(point.at).toFixed(1)} ${y(point[name]).toFixed(1)}`;
      pen = "L";
    }
    return `<path class="line" stroke="${ink}" stroke-linecap="round" d="${path}"/>`;
  });
  const legend = chart.lines.map(([name, label, ink]) => {
    const last = points.at(-1)[name];
    return `<b style="--ink:${ink}">${label} ${last == null ? "-" : text(last) + " " + chart.unit}</b>`;
  });
  return `<figure><figcaption>${chart.title}${chart.unit && `, ${chart.unit}`}<small>${chart.note}</small></figcaption>
    <svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${chart.title}">${grid.join("")}${ends.join("")}${lines.join("")}</svg>
    <div class="legend">${legend.join("")}</div></figure>`;
}

async function refresh() {
  try {
    const points = await (await fetch("freshness/series")).json();
    if (points.length) document.getElementById("charts").innerHTML = CHARTS.map((chart) => draw(chart, points)).join("");
  } finally {
    setTimeout(refresh, 2000);
  }
}
refresh();
