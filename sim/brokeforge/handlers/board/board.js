// The live board: log in as a sample user, watch one page, and four policies side by side on the same notifications.

import { Page } from "./page.js";
import { POLICIES } from "./policy.js";
import { Pusher } from "./pusher.js";
import { WINDOW, draw } from "./timeline.js";
import { VIEWS } from "./views.js";

const $ = (id) => document.getElementById(id);
const STARVED = 3; // a page starves when a notification waits this many times as long as its policy promises

let config;
let user;
let pusher;
let panels = [];
let main; // the page on the left

async function json(path, options = {}) {
  const headers = { Accept: "application/json", ...(user ? { Authorization: `Bearer ${user.token}` } : {}), ...options.headers };
  const response = await fetch(path, { ...options, headers, cache: "no-store" });
  const body = await response.json();
  if (!response.ok) throw new Error(body.message ?? response.statusText);
  return body;
}

const post = (path, body, method = "POST") => json(path, { method, body: JSON.stringify(body) });

function authorise(socketId, channel) {
  const body = new URLSearchParams({ socket_id: socketId, channel_name: channel });
  return json("/broadcasting/auth", { method: "POST", body });
}

// --- what is open ---

function resourcePath() {
  const id = $("server").value;
  return { server: `/servers/${id}`, firewall: `/servers/${id}/firewall`, dashboard: "/dashboard" }[$("view").value];
}

function channels() {
  const { server, site } = config.events;
  if ($("view").value !== "dashboard") return config.specific ? [[`private-servers.${$("server").value}`, server]] : [["private-servers", server]];
  if (config.channels === "per_user") {
    return [[`private-users.${user.id}.servers`, server], [`private-users.${user.id}.sites`, site]];
  }
  return [["private-servers", server], ["private-sites", site]];
}

function open() {
  const path = resourcePath();
  const view = VIEWS[$("view").value];
  const [wait, jitter, count] = ["wait", "jitter", "pages"].map((id) => Number($(id).value));
  const fetchResource = () => json(path);
  for (const page of everyPage()) page?.close();
  panels = Object.entries(POLICIES).map(([name, policy]) => {
    const pages = Array.from({ length: count }, () => new Page(policy, wait, jitter, fetchResource));
    return { name, policy, pages, ages: [], wait };
  });
  main = new Page(POLICIES[$("policy").value], wait, jitter, fetchResource, (resource) => {
    $("shown").innerHTML = view(resource);
  });
  drawPanels(wait);
  listen();
  main.refetch();
}

const everyPage = () => [main, ...panels.flatMap((panel) => panel.pages)];

function listen() {
  for (const channel of [...pusher.channels.keys()]) pusher.unsubscribe(channel);
  for (const [channel, event] of channels()) {
    let before = false;
    pusher.subscribe(channel, event, () => everyPage().forEach((page) => page.notify()));
    // What happened while the connection was away was told to nobody: the pages look for themselves.
    pusher.subscribe(channel, "subscribed", () => {
      if (before) everyPage().forEach((page) => page.refetch());
      before = true;
    });
  }
}

// --- the panels ---

function drawPanels(wait) {
  $("panels").innerHTML = panels
    .map(
      ({ name, policy }) => `<section class="panel" id="panel-${name}" aria-labelledby="title-${name}">
        <header>
          <h2 id="title-${name}">${policy.title} <span class="verdict" role="status"></span></h2><span>${policy.text(wait)}</span>
        </header>
        <div class="numbers">
          <div><b class="n-notifications">0</b><small>notifications, all pages</small></div>
          <div><b class="n-refetches">0</b><small>refetches, all pages</small></div>
          <div class="age"><b class="n-age">0.0 s</b><small>out of date now</small></div>
          <div><b class="n-oldest">0.0 s</b><small>out of date at worst</small></div>
        </div>
        <canvas role="img" aria-label="The last seconds of ${policy.title}: notifications, refetches, and how long the first page was out of date"></canvas>
        <div class="more"></div>
      </section>`,
    )
    .join("");
  for (const panel of panels) {
    const root = $(`panel-${panel.name}`);
    panel.show = (name, value) => (root.querySelector(`.n-${name}`).textContent = value);
    Object.assign(panel, { root, canvas: root.querySelector("canvas"), more: root.querySelector(".more"), age: root.querySelector(".age"), verdict: root.querySelector(".verdict") });
  }
}

const seconds = (ms) => `${(ms / 1000).toFixed(1)} s`;
const sum = (pages, name) => pages.reduce((total, page) => total + page[name], 0);

function frame() {
  const now = performance.now();
  for (const panel of panels) {
    const [first] = panel.pages;
    for (const page of panel.pages) page.tick(now);
    const age = first.age(now);
    panel.ages.push({ at: now, age });
    while (panel.ages.length && now - panel.ages[0].at > WINDOW) panel.ages.shift();
    const refetches = sum(panel.pages, "refetches");
    const notified = sum(panel.pages, "notifications");
    panel.show("notifications", notified);
    panel.show("refetches", refetches);
    panel.show("age", seconds(age));
    panel.show("oldest", seconds(first.oldest));
    panel.age.classList.toggle("old", age > 2 * panel.wait);
    const promise = POLICIES[panel.name].promise(panel.wait) + Number($("jitter").value);
    const starving = promise > 0 && first.waiting(now) > STARVED * promise;
    panel.root.classList.toggle("starving", starving);
    if (panel.starving !== starving) panel.verdict.textContent = starving ? "– starving" : "";
    panel.starving = starving;
    const failed = sum(panel.pages, "failures");
    panel.more.textContent =
      `${panel.pages.length} page${panel.pages.length > 1 ? "s" : ""}, ${sum(panel.pages, "inFlight")} requests in flight; ` +
      (first.notifications ? `${(refetches / panel.pages.length / first.notifications).toFixed(2)} refetches per notification` : "nothing has happened yet") +
      `; the first page was out of date for ${seconds(first.stale)} in all` +
      (failed ? `; ${failed} failed` : "");
    draw(panel.canvas, panel.pages, panel.ages, now);
  }
  requestAnimationFrame(frame);
}

// --- making it change ---

const JOBS = {
  provision: () => post(`/servers/${$("server").value}/jobs`, { job: "provision", trace: "stack", speed: 2 }),
  log: () => post(`/servers/${$("server").value}/jobs`, { job: "log", lines: 100, per_second: 5 }),
  deploy: () => post(`/servers/${$("server").value}/jobs`, { job: "deploy" }),
  async rule() {
    const port = 1024 + Math.floor(Math.random() * 60000);
    const { rule } = await post(`/servers/${$("server").value}/firewall/rules`, { name: `Port ${port}`, port });
    await post(`/servers/${$("server").value}/jobs`, { job: "rule", rule: rule.id, seconds: 6 });
  },
  async once() {
    const { connection } = await json(`/servers/${$("server").value}`);
    const next = connection === "connected" ? "disconnected" : "connected";
    await post(`/servers/${$("server").value}`, { connection: next }, "PATCH");
  },
};

// --- who and where ---

function state(text) {
  $("state").textContent = text;
  $("state").className = `pill ${text === "connected" ? "connected" : text.startsWith("connect") ? "" : "bad"}`;
}

async function login() {
  pusher?.close();
  user = null;
  user = await post("/board/login", { user: Number($("user").value) });
  $("server").innerHTML = user.servers.map((s) => `<option value="${s}">${s}</option>`).join("");
  const { host, port, key } = config.broadcaster;
  pusher = new Pusher(`ws://${host || location.hostname}:${port}/app/${key}`, authorise, state);
  open();
}

function output(input) {
  const unit = input.id === "pages" ? "" : " ms";
  document.querySelector(`output[for=${input.id}]`).textContent = input.value + unit;
}

async function start() {
  config = await json("/board/config");
  $("user").innerHTML = config.users.map((u) => `<option value="${u.id}"></option>`).join("");
  config.users.forEach((u, n) => ($("user").options[n].textContent = u.name));
  $("policy").innerHTML = Object.entries(POLICIES).map(([name, { title }]) => `<option value="${name}">${title}</option>`).join("");
  $("policy").value = "trailing";
  $("window").textContent = `${WINDOW / 1000} s from left to right`;
  const asked = new URLSearchParams(location.search);
  for (const id of ["user", "view", "policy", "wait", "pages", "jitter"]) if (asked.has(id)) $(id).value = asked.get(id);
  for (const input of document.querySelectorAll("input")) {
    output(input);
    input.addEventListener("input", () => output(input));
    input.addEventListener("change", open);
  }
  for (const id of ["view", "server", "policy"]) $(id).addEventListener("change", open);
  $("user").addEventListener("change", login);
  $("reset").addEventListener("click", open);
  for (const button of document.querySelectorAll("[data-job]")) {
    button.addEventListener("click", () => JOBS[button.dataset.job]().catch((error) => state(error.message)));
  }
  await login();
  requestAnimationFrame(frame);
  // For tests: the numbers behind the picture.
  const numbers = { panels: () => panels, main: () => main, state: () => $("state").textContent };
  window.board = { ...numbers, drop: () => pusher.socket.close() };
}

start().catch((error) => state(error.message));
