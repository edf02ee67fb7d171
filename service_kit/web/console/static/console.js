// The operator page of both services. The page declares what it shows (data attributes); this puts the answers in.

import { Samples, drawCharts, readCharts, showNow } from "./charts.js";
import { $, $$, ageText, at, clockText, make, numberText, setText } from "./dom.js";
import { useDialogs } from "./forms.js";
import { Poll, Round, act } from "./polls.js";
import { CELLS, Table } from "./tables.js";
import { entryOf } from "./timeline.js";

const page = document.body.dataset;
const polls = [];
let round = null;
let lastGood = null;

// ---- how the page itself is

function told(error) {
  const pulse = $("#pulse");
  const lost = $("#lost");
  if (error === null) {
    lastGood = new Date();
    pulse.dataset.state = "live";
    setText($("#pulse-text"), `Live, ${clockText(lastGood)}`);
    lost.hidden = true;
    return;
  }
  pulse.dataset.state = "lost";
  setText($("#pulse-text"), "Not up to date");
  const since = lastGood ? ` What you see is from ${clockText(lastGood)}.` : "";
  const why = error.status ? error.message : "The service does not answer.";
  setText(lost, `Connection lost. ${why}${since} Trying again by itself.`);
  lost.hidden = false;
}

let doneTimer = 0;

function done(sentence, isBad = false) {
  const place = $("#done");
  clearTimeout(doneTimer);
  place.textContent = sentence;
  place.classList.toggle("bad", isBad);
  doneTimer = setTimeout(() => { place.textContent = ""; }, isBad ? 12000 : 6000);
  round.now();
}

// ---- numbers and charts

function useOverview() {
  const samples = new Samples();
  const [numbers, ages, charts] = ["[data-now]", "[data-now-age]", "[data-chart]"].map((each) => $$(each));
  let now = {};
  const showAges = () => {
    for (const place of ages) setText(place, ageText(at(now, place.dataset.nowAge)));
  };
  const show = (answer) => {
    ({ now } = answer);
    showNow(numbers, now);
    showAges();
    showLink($("[data-link]"), now.link);
    for (const list of $$("[data-names]")) showNames(list, now[list.dataset.names]);
    if (samples.add(answer.samples)) drawCharts(charts, samples);
  };
  readCharts(charts, samples);
  setInterval(showAges, 1000);
  return { show, after: () => samples.last };
}

function showLink(place, link) {
  place.dataset.state = link.is_up ? "up" : "down";
  setText(place, link.is_up ? place.dataset.up : `${place.dataset.down}: ${link.error}`);
}

function showNames(list, names) {
  const shown = JSON.stringify(names);
  if (list.dataset.shown === shown) return;
  list.dataset.shown = shown;
  if ("several" in list.dataset) list.hidden = names.length < 2; // of one, the line above it tells
  const items = names.map(({ name, is_this: isThis, is_gone: isGone, error }) => {
    const trouble = isGone ? " gone" : error ? ` ${error}` : "";
    return make("li", {}, name, ...(isThis ? [make("em", {}, " this one")] : []), ...(trouble ? [make("em", { class: "error" }, trouble)] : []));
  });
  list.replaceChildren(...(items.length ? items : [make("li", {}, "–")]));
}

// ---- a table with filters and pages

function useTable(root, overview) {
  const table = new Table($("[data-table]", root));
  const form = $("[data-filters]");
  const turns = Object.fromEntries($$("[data-turn]", root).map((button) => [button.dataset.turn, button]));
  const cursors = []; // those of the pages before this one, the newest page's left out
  let next = null;
  const filters = () => Object.fromEntries([...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value));
  const url = () => `${root.dataset.source}?${new URLSearchParams({ ...filters(), ...(cursors.length ? { cursor: cursors.at(-1) } : {}) })}`;

  const show = (answer) => {
    overview?.show(answer);
    const rows = answer[root.dataset.name];
    next = answer.next_cursor;
    const hasFilters = Object.keys(filters()).length > 0;
    const nothing = next ? "Nothing so far. Older may have more." : hasFilters || cursors.length ? "Nothing here fits." : undefined;
    table.show(rows, nothing);
    turns.newer.disabled = cursors.length === 0;
    turns.older.disabled = next === null;
    setText($("[data-page-text]", root), `Page ${numberText(cursors.length + 1)}, ${numberText(rows.length)} shown`);
  };
  const refuse = (problem) => {
    next = null;
    turns.newer.disabled = cursors.length === 0;
    turns.older.disabled = true;
    setText($("[data-page-text]", root), "");
    table.tell(problem.message);
  };
  const turn = (change) => {
    change();
    table.restart();
    round.now();
  };
  turns.newer.addEventListener("click", () => turn(() => cursors.pop()));
  turns.older.addEventListener("click", () => next && turn(() => cursors.push(next)));

  const filter = () => {
    const query = new URLSearchParams(filters()).toString();
    history.replaceState(null, "", query ? `?${query}` : location.pathname);
    for (const part of $$("[data-when]")) part.hidden = !filters()[part.dataset.when];
    turn(() => { cursors.length = 0; });
  };
  let typing = 0;
  form.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(filter, 250);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    filter();
  });
  for (const [name, value] of new URLSearchParams(location.search)) {
    if (form.elements[name]) form.elements[name].value = value;
  }
  for (const part of $$("[data-when]")) part.hidden = !filters()[part.dataset.when];
  polls.push(new Poll({ url, after: overview?.after, show, refuse }));
  return filters;
}

// ---- the page of one order

function useOrder() {
  const tables = $$("[data-table]").map((root) => [root.dataset.table, new Table(root)]);
  const timeline = $("[data-timeline]");
  const fault = $("[data-order-fault]");
  let order = {};
  let seen = 0;

  const show = (answer) => {
    ({ order } = answer);
    fault.hidden = true;
    $("[data-order-body]").hidden = false;
    replace($("[data-order-state]"), CELLS.state(order.state));
    for (const place of $$("[data-fact]")) {
      const value = at(order, place.dataset.fact);
      replace(place, Array.isArray(value) ? CELLS.list(value) : CELLS[place.dataset.kind ?? "text"](value, order));
      if (place.parentElement.matches("[data-optional]")) place.parentElement.hidden = !value;
    }
    const details = $("[data-details]");
    details.hidden = order.details === null;
    if (order.details !== null) setText($("pre", details), JSON.stringify(order.details, null, 2));
    for (const button of $$("[data-needs]")) button.disabled = !order.allowed_actions.includes(button.dataset.needs);
    for (const [name, table] of tables) table.show(order[name]);
    for (const event of answer.timeline.events) {
      if (event.seq <= seen) continue;
      timeline.prepend(entryOf(event));
      seen = event.seq;
    }
    return answer.timeline.events.length > 0 && seen < answer.head; // there is more of it
  };
  const refuse = (problem) => {
    setText(fault, problem.message);
    fault.hidden = false;
    $("[data-order-body]").hidden = true;
    $("[data-order-state]").replaceChildren();
    for (const button of $$("[data-needs]")) button.disabled = true;
  };
  polls.push(new Poll({ url: () => `${page.order}?${new URLSearchParams({ id: page.id })}`, after: () => seen, show, refuse }));
  return () => order;
}

/** Put new content in, if it is another. */
function replace(place, content) {
  if (place.childNodes.length !== 1 || !place.firstChild.isEqualNode(content)) place.replaceChildren(content);
}

function useRetries() {
  document.addEventListener("click", async (event) => {
    const button = event.target.closest("[data-retry]");
    if (!button) return;
    button.disabled = true;
    try {
      const { message } = await act(page.retryUrl, { delivery_id: button.dataset.retry });
      done(message);
    } catch (error) {
      button.disabled = false;
      done(error.message, true);
    }
  });
}

// ---- together

// A page that the browser has kept shows nothing of a session that was ended meanwhile.
window.addEventListener("pageshow", (event) => {
  if (event.persisted && page.signIn) location.reload();
});

let facts = () => ({});
if (page.order) facts = useOrder();
const overview = $("[data-link]") ? useOverview() : null;
for (const root of $$("[data-source]")) facts = useTable(root, overview);
if (page.retryUrl) useRetries();
round = new Round(polls, told);
useDialogs(facts, done);
round.run();
