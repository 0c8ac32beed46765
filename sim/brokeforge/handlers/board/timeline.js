// A panel's picture: the last seconds of notifications, refetches and age, newest at the right.

export const WINDOW = 15_000; // ms shown
const TOP = 14; // px of the lane of notifications
const AGE = 34; // px of the lane of the age

// Read anew when the system turns dark or light.
const INK = {};
function readColours() {
  const style = getComputedStyle(document.documentElement);
  for (const name of ["blue", "green", "orange", "line", "quiet", "age"]) INK[name] = style.getPropertyValue(`--${name}`).trim();
}
readColours();
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", readColours);

/** `pages`: all pages of a panel. `ages`: [{at, age}] of the first page. */
export function draw(canvas, pages, ages, now) {
  const scale = window.devicePixelRatio || 1;
  const { clientWidth: width, clientHeight: height } = canvas;
  if (canvas.width !== Math.round(width * scale)) {
    canvas.width = Math.round(width * scale);
    canvas.height = Math.round(height * scale);
  }
  const pen = canvas.getContext("2d");
  pen.setTransform(scale, 0, 0, scale, 0, 0);
  pen.clearRect(0, 0, width, height);
  const x = (at) => width - ((now - at) / WINDOW) * width;
  const bottom = height - AGE;

  pen.strokeStyle = INK.line;
  pen.beginPath();
  for (let back = 5000; back < WINDOW; back += 5000) {
    pen.moveTo(x(now - back), 0);
    pen.lineTo(x(now - back), height);
  }
  pen.moveTo(0, TOP + 0.5);
  pen.lineTo(width, TOP + 0.5);
  pen.moveTo(0, bottom + 0.5);
  pen.lineTo(width, bottom + 0.5);
  pen.stroke();

  const lane = Math.max(2, (bottom - TOP - 6) / pages.length);
  pages.forEach((page, row) => {
    for (const mark of page.marks) {
      if (now - (mark.end ?? now) > WINDOW || now - mark.at > 2 * WINDOW) continue;
      if (mark.kind === "notification") {
        if (row > 0) continue;
        pen.fillStyle = INK.blue;
        pen.fillRect(x(mark.at), 1, 1.5, TOP - 3);
      } else {
        pen.fillStyle = mark.failed ? INK.orange : INK.green;
        const length = Math.max(2.5, x(mark.end ?? now) - x(mark.at));
        pen.fillRect(x(mark.at), TOP + 4 + row * lane, length, Math.max(1.5, lane - 1));
      }
    }
  });

  // The age's own scale: what is oldest in view reaches the top of its lane, but no scale finer than one second.
  const top = Math.max(1000, ...ages.map((a) => a.age));
  pen.fillStyle = INK.age;
  pen.beginPath();
  pen.moveTo(x(ages.length ? ages[0].at : now), height);
  for (const { at, age } of ages) pen.lineTo(x(at), height - (age / top) * (AGE - 4));
  pen.lineTo(x(ages.length ? ages[ages.length - 1].at : now), height);
  pen.fill();
  pen.fillStyle = INK.quiet;
  pen.font = "10px system-ui, sans-serif";
  pen.textAlign = "left";
  pen.fillText(`${(top / 1000).toFixed(1)} s`, 2, bottom + 11);
}
