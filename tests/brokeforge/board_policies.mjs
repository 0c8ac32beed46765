// Runs the board's policies over recorded sequences: reads {vectors: [...]} on standard input, prints the fire times of each.
// Timers are virtual: all due by an instant ring before the call at that instant (or after it, as the vector's order says).

import { Debounce, Immediate, WindowThrottle } from "../../sim/brokeforge/handlers/board/policy.js";

class VirtualClock {
  constructor() {
    this.time = 0;
    this.timers = []; // [due, serial, callback]
    this.serial = 0;
  }

  now() {
    return this.time;
  }

  set(callback, delay) {
    this.timers.push([this.time + Math.max(0, delay), this.serial++, callback]);
    return this.serial;
  }

  run(until, inclusive) {
    for (;;) {
      this.timers.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
      const next = this.timers[0];
      if (!next || next[0] > until || (!inclusive && next[0] === until)) break;
      this.timers.shift();
      this.time = next[0];
      next[2]();
    }
    this.time = until;
  }
}

function policy({ kind, wait, options }, run, clock) {
  if (kind === "immediate") return new Immediate(run);
  if (kind === "window") return new WindowThrottle(run, { wait }, clock);
  if (kind === "throttle") return new Debounce(run, { leading: true, trailing: true, ...options, wait, maxWait: wait }, clock);
  return new Debounce(run, { ...options, wait }, clock);
}

let text = "";
for await (const chunk of process.stdin) text += chunk;
const fired = JSON.parse(text).vectors.map((vector) => {
  const clock = new VirtualClock();
  clock.time = -1e6; // far from zero, where a clock that starts has no past
  const start = clock.time;
  const times = [];
  const machine = policy(vector, () => times.push(clock.now() - start), clock);
  vector.calls.forEach((t, n) => {
    // Calls at the same instant are one task: no timer rings between them.
    if (t !== vector.calls[n - 1]) clock.run(start + t, vector.order === "timer-first");
    machine.call();
  });
  clock.run(start + vector.until, true);
  return times;
});
console.log(JSON.stringify(fired));
