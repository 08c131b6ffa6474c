// An avatar: while it is made, its progress; then its portrait, and what moves it.

import { follow, get, media, post, remove } from "./api.js";
import { driverNames, pagedList, videoCard } from "./cards.js";
import { announce, confirmed, doing, errorPlace, go, h, heading } from "./dom.js";
import { driversPanel } from "./drivers.js";
import { optionsSection } from "./options.js";
import { progressPanel } from "./progress.js";
import { slidersPanel } from "./sliders.js";

export async function avatarView(context) {
  const avatar = await get(`/v1/avatars/${context.id}`, context.signal);
  if (avatar.state === "ready") return studio(avatar, context);
  return avatar.state === "failed" || avatar.state === "cancelled" ? unmade(avatar, context) : making(avatar, context);
}

function making(avatar, { signal }) {
  const errors = errorPlace();
  const { panel, update } = progressPanel(signal);
  follow(avatar.job_id, update, signal).then(
    (job) => {
      announce(job.state === "done" ? "The avatar is ready" : "The avatar was not made");
      go(location.hash);
    },
    (error) => error.name !== "AbortError" && errors.show(error.message),
  );
  const lead = "You can leave this page: the avatar is made meanwhile, and is then in the library.";
  return h("section", { class: "narrow" }, heading("The avatar is being made"), h("p", { class: "lead" }, lead), panel, errors.place);
}

async function unmade(avatar, { signal }) {
  const errors = errorPlace();
  const job = await get(`/v1/jobs/${avatar.job_id}`, signal);
  const why = avatar.state === "cancelled" ? "It was cancelled." : job.error;
  const again = h("button", { type: "button" }, "Try again");
  again.addEventListener("click", doing(errors, async () => {
    await post(`/v1/jobs/${avatar.job_id}/retry`);
    go(location.hash);
  }));
  return h(
    "section",
    { class: "narrow stack" },
    heading("There is no avatar"),
    h("p", {}, why),
    h("div", { class: "row" }, h("a", { class: "button", href: "#/" }, "Use other pictures"), again, deleteButton(avatar, errors)),
    errors.place,
  );
}

async function studio(avatar, context) {
  const { settings, signal } = context;
  const errors = errorPlace();
  const [names, drivers, source] = await Promise.all([
    driverNames(signal),
    driversPanel(context),
    media(avatar.portrait_url, signal),
  ]);
  const picture = h("img", { src: source, alt: "The avatar's portrait", class: "portrait" });
  const closer = avatar.crop && h("button", { type: "button", class: "quiet closer", "aria-pressed": "false" }, "Closer");
  const figure = h("figure", { class: "stage-picture" }, h("div", { class: "framed" }, picture, cropFrame(avatar.crop), closer));
  const options = optionsSection(settings.parts);

  async function render(body) {
    const job = await post(`/v1/avatars/${avatar.id}/videos`, { ...body, options: options.values() });
    go(`#/job/${job.id}`);
  }
  const submit = h("button", { type: "button", class: "main" }, "Make the video");
  submit.addEventListener("click", doing(errors, async () => {
    const driver = drivers.chosen();
    if (!driver) throw new Error("Choose a driving video first.");
    await render({ driver_id: driver });
  }));
  const sliders = slidersPanel({
    settings,
    avatarId: avatar.id,
    signal,
    size: () => (isClose() ? 1024 : 512),
    show: (url) => {
      picture.src = url;
      picture.alt = "The avatar as the sliders set it";
      picture.dataset.still = "yes";
    },
    render: (frames) => render({ key_frames: frames }),
  });
  const isClose = () => closer?.getAttribute("aria-pressed") === "true";
  closer?.addEventListener("click", () => {
    closer.setAttribute("aria-pressed", String(!isClose()));
    picture.style.transform = isClose() ? enlarged(avatar.crop) : "none";
    sliders.redraw();
  });
  const control = tabs("What moves it", [
    ["A video", h("div", { class: "stack" }, drivers.panel, h("div", {}, submit), errors.place)],
    ["Sliders", sliders.panel, sliders.warm],
  ]);
  const videos = await pagedList(
    `/v1/jobs?kind=video&avatar_id=${avatar.id}&limit=8`,
    "jobs",
    (job) => videoCard(job, signal, names),
    "There are no videos of this avatar yet.",
    signal,
  );
  const deletion = errorPlace();
  const facts = h("p", { class: "small" }, avatar.consent ? `Consent: ${avatar.consent}` : "No statement of consent was given.");
  return h(
    "div",
    { class: "stack" },
    heading("Move the portrait"),
    h("div", { class: "studio" }, h("div", { class: "beside" }, figure, facts, h("div", {}, deleteButton(avatar, deletion)), deletion.place), h("div", { class: "stack" }, control, options.section)),
    h("section", {}, h("h2", {}, "Videos"), videos),
  );
}

/** Return a frame around the face's crop, or null. */
function cropFrame(crop) {
  if (!crop) return null;
  const frame = h("span", { class: "crop", "aria-hidden": "true" });
  ["left", "top", "width", "height"].forEach((side, index) => (frame.style[side] = `${100 * crop[index]}%`));
  return frame;
}

/** Return the transform that fills the frame with the face's crop. */
function enlarged([left, top, width, height]) {
  const scale = Math.max(1, 1 / Math.max(width, height));
  const shift = (start, length) => Math.min(0, Math.max(1 / scale - 1, 0.5 / scale - start - length / 2));
  return `scale(${scale}) translate(${100 * shift(left, width)}%, ${100 * shift(top, height)}%)`;
}

function deleteButton(avatar, errors) {
  const button = h("button", { type: "button", class: "danger quiet" }, "Delete this avatar");
  button.addEventListener("click", doing(errors, async () => {
    const consequence = "Its pictures, its consent and all videos of it are removed. This cannot be undone.";
    if (!(await confirmed("Delete this avatar?", consequence, "Delete"))) return;
    await remove(`/v1/avatars/${avatar.id}`);
    announce("The avatar is deleted");
    go("#/library");
  }));
  return button;
}

/** Return tabs that arrow keys change. Each part is [name, content, function that is called when it is chosen]. */
function tabs(label, parts) {
  const buttons = parts.map(([name], index) =>
    h("button", { type: "button", role: "tab", id: `tab-${index}`, "aria-controls": `panel-${index}` }, name),
  );
  const panels = parts.map(([, content], index) =>
    h("div", { role: "tabpanel", id: `panel-${index}`, "aria-labelledby": `tab-${index}`, class: "panel" }, content),
  );
  const choose = (chosen) =>
    buttons.forEach((button, index) => {
      button.setAttribute("aria-selected", String(index === chosen));
      button.tabIndex = index === chosen ? 0 : -1;
      panels[index].hidden = index !== chosen;
      if (index === chosen) parts[index][2]?.();
    });
  buttons.forEach((button, index) => {
    button.addEventListener("click", () => choose(index));
    button.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      const next = (index + step + buttons.length) % buttons.length;
      choose(next);
      buttons[next].focus();
    });
  });
  choose(0);
  return h("div", {}, h("div", { role: "tablist", "aria-label": label, class: "tabs" }, buttons), panels);
}
