// Elements, texts and times. What people and other programs wrote gets into the page as text only: nothing here or
// elsewhere parses HTML.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];

/** An element with attributes and children; an attribute of null or undefined is left out. */
export function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined) element.setAttribute(name, value);
  }
  element.append(...children);
  return element;
}

/** The value at a dotted path, undefined when there is none. */
export const at = (value, path) => path.split(".").reduce((inner, name) => inner?.[name], value);

/** Put a text in only if it is another one: what has not changed keeps its selection and is not read out again. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

const NUMBER = new Intl.NumberFormat();
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const DAY = new Intl.DateTimeFormat(undefined, { year: "numeric", month: "short", day: "numeric" });

export const numberText = (value) => (typeof value === "number" ? NUMBER.format(value) : "–");
export const clockText = (moment) => CLOCK.format(moment);

/** A time in the reader's zone, with the same time in UTC as its title. */
export function time(text) {
  const moment = new Date(text);
  if (Number.isNaN(moment.getTime())) return document.createTextNode("–");
  const isToday = DAY.format(moment) === DAY.format(new Date());
  const shown = isToday ? clockText(moment) : `${DAY.format(moment)}, ${clockText(moment)}`;
  return make("time", { datetime: text, title: text.replace("T", " ").replace("Z", " UTC") }, shown);
}

/** How long ago something was, in the two largest units. */
export function ageText(text, now = Date.now()) {
  const seconds = Math.max(0, Math.floor((now - new Date(text).getTime()) / 1000));
  if (!text || Number.isNaN(seconds)) return "–";
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = Math.max(0, units.findIndex(([, size]) => seconds >= size));
  let left = seconds;
  const parts = [];
  for (const [name, size] of units.slice(seconds ? first : 3, seconds ? first + 2 : 4)) {
    const count = Math.floor(left / size);
    left -= count * size;
    if (count || !parts.length) parts.push(`${count} ${name}`);
  }
  return parts.join(" ");
}

/** A state as a coloured word; the colour is a help and never the only sign. */
export function state(word) {
  const name = /^[a-z_]{1,20}$/.test(word) ? word : "unknown";
  return make("span", { class: `state state-${name}` }, String(word ?? "–").replaceAll("_", " "));
}

/** A link that leads away, or its bare text when it is none that a browser may follow. */
export function outsideLink(url) {
  if (!/^https?:\/\//i.test(url)) return document.createTextNode(url);
  return make("a", { href: url, target: "_blank", rel: "noopener noreferrer nofollow" }, url);
}

/** The address of a page with a query. */
export const linkTo = (page, query) => `${page}?${new URLSearchParams(query)}`;
