// When a notification becomes a refetch. No timer of its own: it is told the time and given a clock, so that tests can run it.
//
// A policy has one method, call(): a notification arrived. It calls `run` when a refetch is due. All times in milliseconds.

export const realClock = {
  now: () => performance.now(),
  set: (callback, delay) => setTimeout(callback, delay),
};

/** Every notification is a refetch. */
export class Immediate {
  constructor(run) {
    this.run = run;
  }

  call() {
    this.run();
  }
}

/** use-debounce 10: `wait`, `leading`, `trailing`, `maxWait`; without maxWait also lodash's. */
export class Debounce {
  constructor(run, { wait, leading = false, trailing = true, maxWait }, clock = realClock) {
    Object.assign(this, { run, wait, leading, trailing, clock });
    this.maxWait = maxWait === undefined ? undefined : Math.max(maxWait, wait);
    this.last = null; // time of the last call
    this.fired = -Infinity; // time of the last run, or of the start of the present window
    this.pending = false;
    this.slot = null;
  }

  call() {
    const now = this.clock.now();
    const ripe = this.ripe(now);
    this.pending = true;
    this.last = now;
    if (this.slot === null) {
      if (ripe) this.fired = now;
      this.start(this.wait);
      if (ripe && this.leading) this.fire(now);
    } else if (ripe && this.maxWait !== undefined) {
      // use-debounce leaves the timer that runs running, and starts another.
      this.start(this.wait);
      this.fire(now);
    }
  }

  ripe(now) {
    return (
      this.last === null ||
      now - this.last >= this.wait ||
      now < this.last ||
      (this.maxWait !== undefined && now - this.fired >= this.maxWait)
    );
  }

  start(delay) {
    this.slot = this.clock.set(() => this.expire(), delay) ?? true;
  }

  expire() {
    const now = this.clock.now();
    if (!this.ripe(now)) {
      const byWait = this.last + this.wait;
      this.start(Math.min(byWait, this.maxWait === undefined ? byWait : this.fired + this.maxWait) - now);
      return;
    }
    this.slot = null;
    if (this.trailing && this.pending) this.fire(now);
    else this.pending = false;
  }

  fire(now) {
    this.pending = false;
    this.fired = now;
    this.run();
  }
}

/** The first notification opens a window; one refetch at its end answers all that came in it. */
export class WindowThrottle {
  constructor(run, { wait }, clock = realClock) {
    Object.assign(this, { run, wait, clock, open: false });
  }

  call() {
    if (this.open) return;
    this.open = true;
    this.clock.set(() => {
      this.open = false;
      this.run();
    }, this.wait);
  }
}

/**
 * The four that the board shows side by side. `wait` is what the slider says; `promise` is how long a notification waits for a
 * refetch where no others follow it (or, with a maximum, at most), ms.
 */
export const POLICIES = {
  immediate: {
    title: "Immediate",
    text: () => "every notification is a refetch",
    promise: () => 0,
    make: (run) => new Immediate(run),
  },
  trailing: {
    title: "Trailing debounce",
    text: (wait) => `after ${wait} ms of silence`,
    promise: (wait) => wait,
    make: (run, wait, clock) => new Debounce(run, { wait }, clock),
  },
  window: {
    title: "Window throttle",
    text: (wait) => `once per ${wait} ms window`,
    promise: (wait) => wait,
    make: (run, wait, clock) => new WindowThrottle(run, { wait }, clock),
  },
  maxWait: {
    title: "With maxWait",
    text: (wait) => `${wait} ms of silence, but at most ${2 * wait} ms`,
    promise: (wait) => 2 * wait,
    make: (run, wait, clock) => new Debounce(run, { wait, maxWait: 2 * wait }, clock),
  },
};
