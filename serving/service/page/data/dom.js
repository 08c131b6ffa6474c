// Elements, messages and dialogs that all views share.

const PROPERTIES = new Set(["value", "checked", "muted", "disabled", "hidden"]);

/** Make an element. `on...` are event handlers; null and false leave an attribute out. */
export function h(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || (value === false && !PROPERTIES.has(name))) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (PROPERTIES.has(name)) element[name] = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Tell a screen reader. */
export function announce(text) {
  const status = document.getElementById("status");
  if (status.textContent !== text) status.textContent = text;
}

/** Return an empty place for an error; `show(text)` fills it and `clear()` empties it. */
export function errorPlace() {
  const place = h("p", { class: "error", role: "alert", hidden: true });
  return {
    place,
    show(text) {
      place.textContent = text;
      place.hidden = false;
    },
    clear() {
      place.hidden = true;
      place.textContent = "";
    },
  };
}

/** Run an action of a button: it is disabled meanwhile, and an error goes to `errors`. */
export function doing(errors, action) {
  return async (event) => {
    event.preventDefault();
    const button = event.submitter ?? event.currentTarget;
    errors.clear();
    button.disabled = true;
    try {
      await action(event);
    } catch (error) {
      if (error.name !== "AbortError") errors.show(error.message);
    } finally {
      button.disabled = false;
    }
  };
}

/** Ask before something is deleted. Returns whether to go on. */
export function confirmed(question, consequence, verb) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "question", class: "ask" },
      h("h2", { id: "question" }, question),
      h("p", {}, consequence),
      h(
        "form",
        { method: "dialog", class: "row end" },
        h("button", { value: "no", class: "quiet" }, "Keep it"),
        h("button", { value: "yes", class: "danger" }, verb),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Show a view's title, also as the page's. */
export function heading(text, ...more) {
  document.title = `${text} – Sfumato`;
  return h("h1", { tabindex: "-1" }, text, ...more);
}

/** Return a date and time in the reader's own form. */
export function when(time) {
  return new Date(time).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Whether animations should be left out. */
export function calm() {
  return matchMedia("(prefers-reduced-motion: reduce)").matches;
}

export function go(hash) {
  if (location.hash === hash) dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = hash;
}
