// Dialogs and what they do. A name with a dot is a field within a field.

import { $, $$ } from "./dom.js";
import { act } from "./polls.js";

/** 24 letters and digits that nobody else draws. `crypto.randomUUID` is missing on a page without TLS. */
const freshId = () => [...crypto.getRandomValues(new Uint8Array(12))].map((byte) => byte.toString(16).padStart(2, "0")).join("");

function documentOf(form) {
  const document = {};
  for (const input of $$("[name]", form)) {
    const value = input.dataset.type === "words" ? input.value.split(/[\s,]+/).filter(Boolean) : input.value;
    const names = input.name.split(".");
    const last = names.pop();
    names.reduce((inner, name) => (inner[name] ??= {}), document)[last] = value;
  }
  return document;
}

/** Make the page's dialogs work: `facts()` are what their fields begin with, `done(sentence)` hears of success. */
export function useDialogs(facts, done) {
  for (const dialog of $$("dialog")) {
    const form = $("form", dialog);
    const fault = $("[data-fault]", dialog);
    $("[data-close]", dialog).addEventListener("click", () => dialog.close());
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      const button = $("[type=submit]", form);
      button.disabled = true;
      fault.hidden = true;
      try {
        const { message } = await act(form.dataset.do, documentOf(form));
        dialog.close();
        form.reset();
        done(message);
      } catch (error) {
        fault.textContent = error.message;
        fault.hidden = false;
      } finally {
        button.disabled = false;
      }
    });
  }
  document.addEventListener("click", (event) => {
    const opener = event.target.closest("[data-open]");
    if (opener) openDialog(document.getElementById(opener.dataset.open), opener, facts());
  });
}

function openDialog(dialog, opener, facts) {
  $("[data-fault]", dialog).hidden = true;
  for (const input of $$("[name]", dialog)) {
    if ("freshId" in input.dataset) input.value = freshId(); // what is sent twice under one name has one effect
    if (input.dataset.from) input.value = (facts[input.dataset.from] ?? []).join(" ");
    const given = opener.dataset[input.name] ?? (opener.dataset.take === input.name ? facts[input.name] : undefined);
    if (given !== undefined) input.value = given;
    for (const shown of $$(`[data-shown="${input.name}"]`, dialog)) shown.textContent = input.value;
  }
  dialog.showModal();
}
