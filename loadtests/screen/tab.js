// Lays the charts over Locust's own table while the tab "Freshness" is open. Locust notes the open tab in the address.
(() => {
  const charts = new URL("../freshness", document.currentScript.src);
  const frame = document.createElement("iframe");
  frame.title = "Charts of freshness, notifications and open connections";
  frame.style.cssText = "position:fixed;z-index:3;left:0;bottom:0;width:100%;border:0;display:none;background:inherit";
  document.body.append(frame);
  let shown = false;
  setInterval(() => {
    const tabs = document.querySelector("[role=tablist]");
    const open = !!tabs && new URLSearchParams(location.search).get("tab") === "freshness";
    if (open) {
      const top = Math.max(tabs.getBoundingClientRect().bottom, 0);
      frame.style.top = `${top}px`;
      frame.style.height = `calc(100% - ${top}px)`;
    }
    if (open === shown) return;
    shown = open;
    const [red, green, blue] = getComputedStyle(document.body).backgroundColor.match(/\d+/g).map(Number);
    charts.search = `theme=${red + green + blue < 384 ? "dark" : "light"}`;
    frame.src = open ? charts : "about:blank";
    frame.style.display = open ? "block" : "none";
  }, 200);
})();
