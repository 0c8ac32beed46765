// What each page shows, as HTML. Everything from the server goes through `text`.

function text(value) {
  return String(value ?? "–").replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

function status(value) {
  return `<span class="status ${/^[a-z_]+$/.test(value ?? "") ? value : ""}">${text(value ?? "not installed")}</span>`;
}

function rules(server) {
  const rows = server.rules
    .slice(0, 8)
    .map((r) => `<tr><td>${text(r.name)}</td><td>${text(r.rule_type)} ${text(r.port)}</td><td>${status(r.status)}</td></tr>`)
    .join("");
  return `<h3>Firewall ${text(server.isFirewallInstalled ? server.firewallStatus : "not installed")}</h3><table>${rows}</table>`;
}

function history(server, count) {
  const lines = server.recentEvents.slice(0, count).map((e) => `<li>${text(e.message)}</li>`);
  return `<h3>Recent events</h3><ul class="history">${lines.join("")}</ul>`;
}

function head(server) {
  return `<p class="name">${text(server.vanity_name)}</p>`;
}

export const VIEWS = {
  server(server) {
    const steps = Object.entries(server.provision).map(([step, s]) => `<span>${text(step)} ${status(s)}</span>`);
    const metrics = server.latestMetrics;
    const load = metrics ? `CPU ${Math.round(100 * metrics.cpu)} %, memory ${Math.round(100 * metrics.memory)} %` : "";
    return `${head(server)}
      <p class="facts">${status(server.provision_status)} ${status(server.connection)} version ${text(server.version)}; ${load}</p>
      <h3>Provisioning</h3><div class="steps">${steps.join("")}</div>
      <h3>Services</h3><table>
        <tr><td>Monitoring</td><td>${status(server.monitoring_status)}</td></tr>
        <tr><td>Scheduler</td><td>${status(server.scheduler_status)}</td></tr>
        <tr><td>Supervisor</td><td>${status(server.supervisor_status)}</td></tr></table>
      ${rules({ ...server, rules: server.rules.slice(0, 4) })}
      ${history(server, 6)}`;
  },

  firewall(server) {
    return `${head(server)}<p class="facts">version ${text(server.version)}</p>${rules(server)}${history(server, 8)}`;
  },

  dashboard(board) {
    const servers = board.servers.map(
      (s) => `<tr><td>${text(s.name)}</td><td>${status(s.provision_status)} ${status(s.connection)}</td></tr>`,
    );
    const sites = board.sites.map((s) => `<tr><td>${text(s.domain)}</td><td>${status(s.status)} ${status(s.health)}</td></tr>`);
    const activities = board.activities.slice(0, 6).map((a) => `<li>${text(a.description)}</li>`);
    return `<p class="name">Dashboard</p><p class="facts">version ${text(board.version)}</p>
      <h3>Latest servers</h3><table>${servers.join("")}</table>
      <h3>Latest sites</h3><table>${sites.join("")}</table>
      <h3>Activities</h3><ul class="history">${activities.join("")}</ul>`;
  },
};
