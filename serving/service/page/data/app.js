// Starts the page: settings, sign-in, and the view that the address names.

import { forgetBlobs, get, key } from "./api.js";
import { avatarView } from "./avatar.js";
import { createView } from "./create.js";
import { h, heading } from "./dom.js";
import { libraryView } from "./library.js";
import { signInView } from "./sign-in.js";
import { videoView } from "./video.js";

const VIEWS = [
  [/^#\/avatar\/([0-9a-f]{32})$/, avatarView],
  [/^#\/job\/([0-9a-f]{32})$/, videoView],
  [/^#\/library$/, libraryView],
  [/^(?:#\/?)?$/, createView],
];
const main = document.getElementById("main");
const signOut = document.getElementById("sign-out");
let settings = null;
let leaving = new AbortController();

async function show(first = false) {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  forgetBlobs();
  for (const link of document.querySelectorAll("nav a")) {
    const here = link.getAttribute("href") === (location.hash || "#/");
    if (here) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  try {
    settings ??= await get("/v1/settings", signal);
    signOut.hidden = !settings.needs_key || !key.get();
    if (settings.needs_key && !key.get()) return fill(signInView(() => show()), first);
    const { view, id } = named(location.hash);
    const content = view ? await view({ settings, signal, id }) : nothingHere();
    if (!signal.aborted) fill(content, first);
  } catch (error) {
    if (error.name === "AbortError" || signal.aborted) return;
    if (error.status === 401) return fill(signInView(() => show()), first);
    fill(failed(error), first);
  }
}

function named(hash) {
  for (const [form, view] of VIEWS) {
    const match = form.exec(hash);
    if (match) return { view, id: match[1] };
  }
  return {};
}

function fill(content, first) {
  main.replaceChildren(content);
  main.dataset.ready = "yes";
  if (!first) main.querySelector("h1")?.focus({ preventScroll: true });
  scrollTo(0, 0);
}

function nothingHere() {
  return h("section", {}, heading("Nothing here"), h("p", {}, "This link leads nowhere. ", h("a", { href: "#/" }, "Start anew")));
}

function failed(error) {
  const title = error.status === 404 ? "It is gone" : "That did not work";
  const again = h("button", { onclick: () => show() }, "Try again");
  const home = h("a", { class: "button quiet", href: "#/library" }, "Go to the library");
  return h("section", {}, heading(title), h("p", { role: "alert" }, error.message), h("p", { class: "row" }, again, home));
}

addEventListener("hashchange", () => show());
addEventListener("key-refused", () => key.clear());
signOut.addEventListener("click", () => {
  key.clear();
  show();
});
document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address names the view
  main.focus();
});
show(true);
