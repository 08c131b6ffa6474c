// Avatars and videos as cards of a list, and lists in pages.

import { get, media, pause } from "./api.js";
import { doing, errorPlace, h, when } from "./dom.js";
import { describe } from "./progress.js";

const WATCH_MS = 3000;

/** Return an avatar as an item of a list. */
export function avatarCard(avatar, signal) {
  const state = h("span", {});
  const link = h("a", { href: `#/avatar/${avatar.id}` }, portrait(avatar, signal, ""), h("span", { class: "unseen" }, "Avatar, "), state);
  watch(avatar, `/v1/avatars/${avatar.id}`, signal, (now) => {
    state.textContent = { ready: when(now.created_at), failed: "Failed", cancelled: "Cancelled" }[now.state] ?? "In the making";
    if (now !== avatar) link.firstChild.replaceWith(portrait(now, signal, ""));
  });
  return h("li", { class: "card" }, link);
}

/** Return a video as an item of a list. */
export function videoCard(job, signal, drivers) {
  const state = h("span", { class: "small" });
  const name = drivers.get(job.driver_id) ?? "Own motion";
  const link = h("a", { href: `#/job/${job.id}` }, frame(job, signal), h("span", {}, name), state);
  watch(job, job.url, signal, (now) => {
    state.textContent = { done: when(now.created_at), failed: "Failed", cancelled: "Cancelled" }[now.state] ?? describe(now).long;
    if (now !== job && now.state === "done") link.firstChild.replaceWith(frame(now, signal));
  });
  return h("li", { class: "card", "data-job": job.id }, link);
}

/** Return a frame of a finished video as an img; the portrait while there is none. */
function frame(job, signal) {
  const instead = () => portrait({ id: job.avatar_id, state: "ready" }, signal, "");
  if (job.state !== "done") return instead();
  const picture = h("img", { alt: "", loading: "lazy", class: "frame" });
  const replace = () => picture.replaceWith(instead());
  picture.addEventListener("error", replace);
  media(`/v1/jobs/${job.id}/preview`, signal).then((url) => (picture.src = url), replace);
  return picture;
}

/** Show an object, and again whenever it was asked for, until it is no longer made. */
async function watch(object, path, signal, show) {
  show(object);
  try {
    while (object.state === "queued" || object.state === "running") {
      await pause(WATCH_MS, signal);
      object = await get(path, signal);
      show(object);
    }
  } catch {
    // The view was left, or the object was deleted.
  }
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
