// One open page: a policy, its refetches, and what it shows. The board opens several of them on the same resource.

export class Page {
  /** `policy`: one of POLICIES. `fetchResource()`: resolves to the resource's JSON. `onShow(resource)`: it is applied. */
  constructor(policy, wait, jitter, fetchResource, onShow = () => {}) {
    Object.assign(this, { fetchResource, onShow, jitter });
    this.notifications = 0;
    this.refetches = 0;
    this.failures = 0;
    this.inFlight = 0;
    this.shown = null;
    this.waitingSince = null; // arrival of the first notification since which no refetch has begun
    this.unanswered = []; // arrival times of notifications that no applied refetch contains
    this.marks = []; // {kind: "notification" | "refetch", at, end?}: what the timeline draws
    this.stale = 0; // ms during which it showed an old state
    this.oldest = 0; // ms: the greatest age so far
    this.counted = performance.now();
    this.closed = false;
    this.policy = policy.make(() => this.due(), wait);
  }

  notify() {
    const at = performance.now();
    this.tick(at);
    this.notifications += 1;
    this.unanswered.push(at);
    this.waitingSince ??= at;
    this.mark({ kind: "notification", at });
    this.policy.call();
  }

  /** The user leaves: refetches that are still due do not start, and answers that are still out are not shown. */
  close() {
    this.closed = true;
  }

  due() {
    if (this.jitter > 0) setTimeout(() => this.refetch(), Math.random() * this.jitter);
    else this.refetch();
  }

  async refetch() {
    if (this.closed) return;
    const at = performance.now();
    const mark = this.mark({ kind: "refetch", at, end: null });
    this.refetches += 1;
    this.inFlight += 1;
    this.waitingSince = null;
    try {
      const resource = await this.fetchResource();
      // Answers may overtake each other: an older one never replaces a newer one.
      if (this.closed) return;
      if (this.shown === null || resource.version >= this.shown.version) {
        this.tick(performance.now());
        this.shown = resource;
        this.unanswered = this.unanswered.filter((arrived) => arrived > at);
        this.onShow(resource);
      }
    } catch {
      this.failures += 1;
      mark.failed = true;
    } finally {
      this.inFlight -= 1;
      mark.end = performance.now();
    }
  }

  /** How long a notification has been waiting for a refetch to begin, ms. A slow answer is not the policy's doing. */
  waiting(now = performance.now()) {
    return this.waitingSince === null ? 0 : now - this.waitingSince;
  }

  /** How long what is shown has been untrue, ms. */
  age(now = performance.now()) {
    return this.unanswered.length ? now - this.unanswered[0] : 0;
  }

  /** Count the time since the last tick as fresh or stale. */
  tick(now) {
    const age = this.age(now);
    if (age > 0) this.stale += Math.min(now - this.counted, age);
    this.oldest = Math.max(this.oldest, age);
    this.counted = now;
  }

  mark(mark) {
    this.marks.push(mark);
    if (this.marks.length > 2000) this.marks.splice(0, 500);
    return mark;
  }
}
