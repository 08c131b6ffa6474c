// Sign-in: the key stays in this tab, and is forgotten with it.

import { get, key } from "./api.js";
import { doing, errorPlace, h, heading } from "./dom.js";

export function signInView(then) {
  const errors = errorPlace();
  const field = h("input", { type: "password", id: "key", autocomplete: "off", required: true, spellcheck: "false" });
  const enter = doing(errors, async () => {
    key.set(field.value.trim());
    try {
      await get("/v1/jobs?limit=1");
    } catch (error) {
      key.clear();
      throw error.status === 401 ? new Error("This key is not known here.") : error;
    }
    then();
  });
  return h(
    "section",
    { class: "narrow" },
    heading("Sign in"),
    h("p", {}, "This service needs an API key. It stays in this tab until you close it or sign out."),
    h("form", { class: "stack", onsubmit: enter }, h("label", { for: "key" }, "API key"), field, h("button", {}, "Sign in"), errors.place),
  );
}
