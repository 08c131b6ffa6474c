// A video: its progress, then its result beside source and driver.

import { follow, get, media, post, remove } from "./api.js";
import { driverNames, portrait } from "./cards.js";
import { announce, confirmed, doing, errorPlace, go, h, heading } from "./dom.js";
import { progressPanel } from "./progress.js";

export async function videoView(context) {
  const { id, signal } = context;
  const job = await get(`/v1/jobs/${id}`, signal);
  if (job.kind === "avatar") {
    location.replace(`#/avatar/${job.avatar_id}`);
    return h("p", {}, "…");
  }
  if (job.state === "done") return result(job, context);
  return job.state === "failed" || job.state === "cancelled" ? unmade(job) : rendering(job, context);
}

function rendering(job, { signal }) {
  const errors = errorPlace();
  const { panel, update } = progressPanel(signal);
  update(job);
  follow(job.id, update, signal).then(
    (last) => {
      announce(last.state === "done" ? "The video is ready" : "The video was not made");
      go(location.hash);
    },
    (error) => error.name !== "AbortError" && errors.show(error.message),
  );
  const back = h("a", { href: `#/avatar/${job.avatar_id}` }, "Back to the avatar");
  return h("section", { class: "narrow stack" }, heading("The video is being made"), panel, h("p", {}, back), errors.place);
}

function unmade(job) {
  const errors = errorPlace();
  const again = h("button", { type: "button" }, "Try again");
  again.addEventListener("click", doing(errors, async () => {
    await post(`/v1/jobs/${job.id}/retry`);
    go(location.hash);
  }));
  const back = h("a", { class: "button quiet", href: `#/avatar/${job.avatar_id}` }, "Back to the avatar");
  const why = job.state === "cancelled" ? "It was cancelled." : job.error;
  return h("section", { class: "narrow stack" }, heading("There is no video"), h("p", {}, why), h("div", { class: "row" }, again, back, deleteButton(job, errors)), errors.place);
}

async function result(job, { signal }) {
  const errors = errorPlace();
  const [names, url] = await Promise.all([driverNames(signal), media(job.result_url, signal)]);
  const film = h("video", { src: url, controls: true, playsinline: true, loop: true, class: "film", "aria-label": "The video" });
  const source = portrait({ id: job.avatar_id, state: "ready" }, signal, "The portrait");
  const driver = names.has(job.driver_id) && (await driverVideo(job.driver_id, film, signal));
  const download = h("a", { class: "button", href: url, download: `sfumato-${job.id.slice(0, 8)}.mp4` }, "Download");
  const beside = job.side_by_side_url && h("button", { type: "button", class: "quiet" }, "Download side by side");
  if (beside) {
    beside.addEventListener("click", doing(errors, async () => {
      const link = h("a", { href: await media(job.side_by_side_url, signal), download: "side-by-side.mp4" });
      link.click();
    }));
  }
  const again = h("a", { class: "button quiet", href: `#/avatar/${job.avatar_id}` }, "Make another");
  return h(
    "div",
    { class: "stack" },
    heading("The video"),
    h(
      "div",
      { class: "triptych" },
      h("figure", {}, source, h("figcaption", {}, "Portrait")),
      driver && h("figure", {}, driver, h("figcaption", {}, names.get(job.driver_id))),
      h("figure", { class: "made" }, film, h("figcaption", {}, `Result: ${size(job.facts)}`)),
    ),
    job.facts.note && h("p", { class: "notice" }, job.facts.note),
    h("div", { class: "row" }, download, beside, shareButton(errors), again, deleteButton(job, errors)),
    errors.place,
  );
}

function size({ width, height, frames, fps }) {
  return width ? `${width} × ${height}, ${frames} frames at ${Number(fps.split("/")[0] / (fps.split("/")[1] ?? 1)).toFixed(0)} a second` : "ready";
}

/** Return the driving video, which plays in step with the result. */
async function driverVideo(driverId, film, signal) {
  const url = await media(`/v1/drivers/${driverId}/content`, signal).catch(() => null);
  if (!url) return null;
  const driver = h("video", { src: url, muted: true, playsinline: true, class: "driver", "aria-label": "The driving video" });
  driver.addEventListener("error", () => driver.closest("figure")?.remove()); // a file of motion
  const follow = () => Math.abs(driver.currentTime - film.currentTime) > 0.15 && (driver.currentTime = film.currentTime);
  film.addEventListener("play", () => driver.play().catch(() => {}));
  film.addEventListener("pause", () => driver.pause());
  film.addEventListener("seeking", follow);
  film.addEventListener("timeupdate", follow);
  return driver;
}

function shareButton(errors) {
  const button = h("button", { type: "button", class: "quiet" }, "Share the link");
  button.addEventListener("click", doing(errors, async () => {
    if (navigator.share && matchMedia("(pointer: coarse)").matches) return navigator.share({ title: "Sfumato", url: location.href });
    if (!navigator.clipboard) throw new Error(`Copy the link: ${location.href}`); // browsers offer it on https only
    await navigator.clipboard.writeText(location.href);
    button.textContent = "Copied";
    announce("The link is copied");
  }));
  return button;
}

function deleteButton(job, errors) {
  const button = h("button", { type: "button", class: "danger quiet" }, "Delete");
  button.addEventListener("click", doing(errors, async () => {
    if (!(await confirmed("Delete this video?", "This cannot be undone; the avatar stays.", "Delete"))) return;
    await remove(`/v1/jobs/${job.id}`);
    announce("The video is deleted");
    go(`#/avatar/${job.avatar_id}`);
  }));
  return button;
}
