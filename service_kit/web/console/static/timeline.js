// An order's timeline: each event in a sentence, and its data for who wants to know exactly.

import { make, outsideLink, state, time } from "./dom.js";

const CHANNELS = { email: "E-mail", webhook: "Webhook" };
const ANSWERS = { accepted: "accepts", declined: "declines", message: "writes back" };
const because = (reason) => (reason ? `: ${reason}` : "");
const of = (followUpId) => (followUpId ? `note ${followUpId}` : "the order");

/** What happened, by the event's kind. Of a kind that is newer than this page, the name is shown. */
const SENTENCES = {
  initiated: (data) => `Initiated in session ${data.session_id}`,
  taken_over: (data) => `Taken over by another requestor, with token ${data.token}`,
  note_added: (data) => `Follow-up ${data.follow_up_id} to ${data.audience.join(", ")}`,
  close_requested: (data) => `Asked to ${data.kind}${because(data.reason)}`,
  accepted: () => "The processor has the order",
  follow_up_accepted: (data) => `The processor has follow-up ${data.follow_up_id}`,
  delivery_changed: (data) =>
    `${CHANNELS[data.channel] ?? data.channel} to ${data.seller_id} with ${of(data.follow_up_id)}: ${data.state}`,
  seller_replied: (data) => `${data.seller_id} ${ANSWERS[data.answer] ?? data.answer}, to ${of(data.follow_up_id)}`,
  completed: (data) => `Completed by the ${data.by}${because(data.reason)}`,
  cancelled: (data) => `Cancelled by the ${data.by}${because(data.reason)}`,
  history_pruned: (data) => `Ended as ${data.end}; the processor no longer keeps events ${data.missing_after + 1} to ${data.missing_to}`,
};
const TONES = { completed: "good", seller_replied: "voice", note_added: "voice", cancelled: "bad", initiated: "good" };

function sentenceOf(event) {
  try {
    return SENTENCES[event.kind]?.(event.data) ?? event.kind.replaceAll("_", " ");
  } catch {
    return event.kind.replaceAll("_", " "); // an older or newer service says less of it
  }
}

const toneOf = ({ kind, data }) =>
  kind === "delivery_changed" ? { delivered: "good", dead: "bad", retrying: "warn" }[data.state] : TONES[kind];

/** One event as an entry of the list. */
export function entryOf(event) {
  const { data } = event;
  const parts = [make("p", { class: "what" }, make("strong", {}, sentenceOf(event)))];
  if (data.message) parts.push(make("p", { class: "said" }, data.message));
  if (data.urls?.length) parts.push(make("ul", { class: "links" }, ...data.urls.map((url) => make("li", {}, outsideLink(url)))));
  if (data.last_error) parts.push(make("p", { class: "error" }, data.last_error));
  for (const each of data.deliveries ?? []) {
    parts.push(make("p", { class: "planned" }, `${CHANNELS[each.channel] ?? each.channel} to ${each.seller_id} `, state(each.state)));
  }
  if (Object.keys(data).length) {
    const exact = make("pre", { tabindex: "0" }, JSON.stringify(data, null, 2));
    parts.push(make("details", { class: "data" }, make("summary", {}, "Data"), exact));
  }
  const where = event.origin ? ` · ${event.origin}` : "";
  parts.push(make("p", { class: "when" }, time(event.at), ` · ${event.seq}${where}`));
  return make("li", { class: toneOf(event) ?? null }, ...parts);
}
