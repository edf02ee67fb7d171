// Tables whose columns the page declares and whose rows the service answers.

import { $, $$, at, linkTo, make, numberText, outsideLink, setText, state, time } from "./dom.js";

const page = document.body.dataset;
const text = (value) => document.createTextNode(value === null || value === undefined || value === "" ? "–" : String(value));

/** What a cell of each kind holds. `row` is the whole row that the value is from. */
export const CELLS = {
  text,
  word: text,
  error: (value) => (value ? make("span", { class: "error" }, value) : text(value)),
  number: (value) => text(numberText(value)),
  time: (value) => (value ? time(value) : text(value)),
  when: (value) => time(value),
  who(value, row) {
    if (!row.key_name) return text(value);
    return make("div", {}, make("p", {}, row.key_name), make("p", { class: "hint" }, value));
  },
  outcome: (value) => (value === "done" ? text(value) : make("span", { class: "error" }, value)),
  state: (value) => (value ? state(value) : text(value)),
  open: (value) => state(value ? "open" : "closed"),
  list: (value) => text(value?.join(", ")),
  order: (value) => make("a", { href: linkTo(page.orderPage, { id: value }) }, value),
  seller: (value) => make("a", { href: linkTo(page.deliveriesPage, { seller_id: value }) }, value),
  carries: (value) => text(value || "the order"),
  webhook(value, row) {
    const parts = [make("p", {}, value || "–")];
    if (row.webhook_disabled) parts.push(make("p", { class: "error" }, `Nothing is sent there: ${row.webhook_disabled}`));
    return make("div", {}, ...parts);
  },
  message(value, row) {
    const links = (row.urls ?? []).map((url) => make("li", {}, outsideLink(url)));
    const parts = value ? [make("p", { class: "said" }, value)] : [];
    if (links.length) parts.push(make("ul", { class: "links" }, ...links));
    return make("div", {}, ...parts);
  },
  retry(value, row) {
    if (!row.is_retryable) return document.createTextNode("");
    const label = `Send again: ${row.channel} to ${row.seller_id} for order ${row.order_req_id}`;
    return make("button", { type: "button", "aria-label": label, "data-retry": value }, "Send again");
  },
  "retry-seller": (value) =>
    make(
      "button",
      { type: "button", "aria-label": `Send dead again to ${value}`, "data-open": "retry-seller", "data-seller_id": value },
      "Send dead again",
    ),
};

/** What a cell shows besides its own field: it is made anew when one of these changes. */
const BESIDE = { message: ["urls"], retry: ["is_retryable", "attempts"], webhook: ["webhook_disabled"], who: ["key_name"] };

export class Table {
  #body;
  #empty;
  #columns;
  #key;
  #rows = new Map();
  #isFilled = false;

  constructor(root) {
    this.#body = $("tbody", root);
    this.#empty = $("[data-empty]", root);
    this.#key = root.dataset.key;
    this.#columns = $$("th", root).map((head) => ({
      title: head.textContent,
      kind: head.dataset.kind,
      field: head.dataset.field,
    }));
  }

  /** Say why there are no rows. */
  tell(sentence) {
    this.#body.replaceChildren();
    this.#rows.clear();
    this.#isFilled = false;
    this.#empty.hidden = false;
    setText(this.#empty, sentence);
  }

  /** The next rows are others, and none of them is new. */
  restart() {
    this.#isFilled = false;
  }

  /** Show these rows. Those that are there already stay in their place: a row that is focused keeps the focus. */
  show(rows, emptySentence = this.#empty.dataset.empty) {
    const shown = new Map();
    for (const row of rows) {
      const key = row[this.#key];
      shown.set(key, this.#rows.get(key) ?? this.#newRow(this.#isFilled));
      this.#fill(shown.get(key), row);
    }
    for (const [key, { element }] of this.#rows) {
      if (!shown.has(key)) element.remove();
    }
    let next = this.#body.firstElementChild;
    for (const { element } of shown.values()) {
      if (element === next) next = next.nextElementSibling;
      else this.#body.insertBefore(element, next);
    }
    this.#rows = shown;
    this.#isFilled = true;
    this.#empty.hidden = rows.length > 0;
    if (!rows.length) setText(this.#empty, emptySentence);
  }

  #newRow(isNews) {
    const cells = this.#columns.map(({ title, kind }) => make("td", { role: "cell", class: `cell-${kind}`, "data-title": title }));
    return { element: make("tr", { role: "row", class: isNews ? "news" : null }, ...cells), cells, seen: [] };
  }

  #fill(shown, row) {
    for (const [index, { kind, field }] of this.#columns.entries()) {
      const value = at(row, field);
      const seen = JSON.stringify([value, ...(BESIDE[kind] ?? []).map((name) => row[name])]);
      if (shown.seen[index] === seen) continue;
      shown.seen[index] = seen;
      shown.cells[index].replaceChildren(CELLS[kind](value, row));
    }
  }
}
