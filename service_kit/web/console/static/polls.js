// Asks again and again for what may have changed. Each question carries the ETag of its last answer, so an unchanged one
// costs next to nothing; none is held open, and a page that nobody sees asks for nothing.

const EVERY_MS = 2000;
const LONGEST_MS = 15000;
const TIMEOUT_MS = 10000;

/** A refusal in the words of the service: a problem document (RFC 9457). */
export class Problem extends Error {
  constructor(status, document) {
    const faults = (document.errors ?? []).map((fault) => `${fault.pointer.slice(1)}: ${fault.message}`);
    super([document.detail ?? `The service answered ${status}.`, ...faults].join(" "));
    this.status = status;
  }
}

async function problemOf(answer) {
  const document = await answer.json().catch(() => ({}));
  return new Problem(answer.status, document ?? {});
}

/** The session is over: sign in, and come back to this page. */
function leaveToSignIn() {
  const { signIn } = document.body.dataset;
  if (!signIn) return;
  location.replace(`${signIn}?${new URLSearchParams({ next: location.pathname + location.search })}`);
}

/** One question: `url()` says what to ask now, `after()` what is known of what grows, `show` puts the answer in and
    says whether there is more of it, `refuse` tells why there is none. */
export class Poll {
  #url;
  #after;
  #show;
  #refuse;
  #asked = "";
  #etag = null;

  constructor({ url, after, show, refuse }) {
    this.#url = url;
    this.#after = after;
    this.#show = show;
    this.#refuse = refuse;
  }

  async ask() {
    const url = this.#url();
    if (url !== this.#asked) this.#etag = null;
    this.#asked = url;
    const headers = this.#etag ? { "If-None-Match": this.#etag } : {};
    const query = this.#after ? `&after=${this.#after()}` : "";
    const answer = await fetch(url + query, { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (url !== this.#url()) return this.ask(); // somebody has typed on meanwhile
    if (answer.status === 304) return undefined;
    if (!answer.ok) {
      if (answer.status === 401) leaveToSignIn();
      const problem = await problemOf(answer);
      if (answer.status >= 500) throw problem;
      this.#etag = null;
      return this.#refuse(problem);
    }
    const document = await answer.json();
    const hasMore = this.#show(document);
    this.#etag = hasMore ? null : answer.headers.get("ETag");
    return hasMore ? this.ask() : undefined;
  }
}

/** Asks all polls in turn until the page is closed; `told(error)` hears how each round went, null when well. */
export class Round {
  #polls;
  #told;
  #wake = null;
  #isAwake = false;

  constructor(polls, told) {
    this.#polls = polls;
    this.#told = told;
    document.addEventListener("visibilitychange", () => document.hidden || this.now());
    window.addEventListener("online", () => this.now());
  }

  /** Ask at once. */
  now() {
    this.#isAwake = true;
    this.#wake?.();
  }

  async run() {
    let wait = EVERY_MS;
    for (;;) {
      this.#isAwake = false;
      try {
        await Promise.all(this.#polls.map((poll) => poll.ask()));
        wait = EVERY_MS;
        this.#told(null);
      } catch (error) {
        wait = Math.min(wait * 1.6, LONGEST_MS);
        this.#told(error);
      }
      await this.#pause(wait);
    }
  }

  async #pause(milliseconds) {
    do {
      await new Promise((resolve) => {
        const timer = setTimeout(resolve, milliseconds);
        this.#wake = () => { clearTimeout(timer); resolve(); };
        if (this.#isAwake) this.#wake();
      });
    } while (document.hidden && !this.#isAwake);
  }
}

/** Do something: a call that the service takes from this page alone. Answers its document, or throws a `Problem`. */
export async function act(url, body) {
  const token = document.querySelector('meta[name="csrf-token"]')?.content;
  const answer = await fetch(url, {
    method: "POST",
    headers: { "Content-Type": "application/json", ...(token ? { "X-CSRF-Token": token } : {}) },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  }).catch(() => { throw new Error("The service does not answer. Nobody knows whether it was done: try again."); });
  if (!answer.ok) throw await problemOf(answer);
  return answer.json();
}
