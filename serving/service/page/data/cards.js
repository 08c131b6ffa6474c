// Avatars and videos as cards of a list, and lists in pages.

import { get, media } from "./api.js";
import { doing, errorPlace, h, when } from "./dom.js";
import { describe } from "./progress.js";

/** Return an avatar as an item of a list. */
export function avatarCard(avatar, signal) {
  const state = { ready: when(avatar.created_at), failed: "Failed", cancelled: "Cancelled" }[avatar.state] ?? "In the making";
  const picture = portrait(avatar, signal, "");
  return h(
    "li",
    { class: "card" },
    h("a", { href: `#/avatar/${avatar.id}` }, picture, h("span", { class: "unseen" }, "Avatar, "), h("span", {}, state)),
  );
}

/** Return a video as an item of a list. */
export function videoCard(job, signal, drivers) {
  const state = { done: when(job.created_at), failed: "Failed", cancelled: "Cancelled" }[job.state] ?? describe(job).long;
  const name = drivers.get(job.driver_id) ?? "Own motion";
  const picture = portrait({ id: job.avatar_id, state: "ready" }, signal, "");
  return h(
    "li",
    { class: "card", "data-job": job.id },
    h("a", { href: `#/job/${job.id}` }, picture, h("span", {}, name), h("span", { class: "small" }, state)),
  );
}

/** Return an avatar's portrait as an img; a grey area while there is none. */
export function portrait(avatar, signal, alt) {
  if (avatar.state !== "ready") return h("span", { class: "blank" });
  const picture = h("img", { alt, loading: "lazy" });
  media(`/v1/avatars/${avatar.id}/portrait`, signal).then(
    (url) => (picture.src = url),
    () => picture.replaceWith(h("span", { class: "blank" })),
  );
  return picture;
}

/** Return the names of all drivers by their ids. */
export async function driverNames(signal) {
  const { drivers } = await get("/v1/drivers", signal);
  return new Map(drivers.map((driver) => [driver.id, driver.name]));
}

/**
 * Return a list that shows a first page, and further ones when asked for.
 * @param path of the objects, with a query
 * @param name of the field that holds them
 */
export async function pagedList(path, name, card, empty, signal) {
  const errors = errorPlace();
  const list = h("ul", { class: "cards" });
  const more = h("button", { type: "button", class: "quiet", hidden: true }, "Show more");
  let cursor = null;
  async function load() {
    const page = await get(cursor ? `${path}&cursor=${encodeURIComponent(cursor)}` : path, signal);
    list.append(...page[name].map(card));
    cursor = page.next;
    more.hidden = cursor === null;
  }
  more.addEventListener("click", doing(errors, load));
  await load();
  const nothing = h("p", { class: "small" }, empty);
  return h("div", { class: "stack" }, list.children.length ? list : nothing, h("div", {}, more), errors.place);
}
