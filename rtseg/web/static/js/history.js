// The shares of the classes over the last ten minutes. The server is asked once; then each status adds to it.

const STEP_MS = 2000;
const LONGEST_MS = 600_000;

export class History {
  constructor() {
    this.clear();
  }

  clear() {
    this.entries = [];
    this.isComplete = false; // whether what was before this page is known
  }

  // What the server remembers of the time before the first status.
  begin(entries) {
    const now = performance.now();
    const first = this.entries[0]?.at ?? now;
    const earlier = entries.map(({ age_s: age, shares }) => ({ at: now - 1000 * age, shares }));
    this.entries = [...earlier.filter(({ at }) => at < first), ...this.entries];
    this.isComplete = true;
  }

  add(shares) {
    const now = performance.now();
    const isDue = this.entries.length === 0 || now - this.entries.at(-1).at >= STEP_MS;
    if (isDue && shares.some((share) => share > 0)) {
      this.entries.push({ at: now, shares });
      this.entries = this.entries.filter(({ at }) => now - at < LONGEST_MS);
    }
  }

  get list() {
    const now = performance.now();
    return this.entries.map(({ at, shares }) => ({ age_s: (now - at) / 1000, shares }));
  }
}
