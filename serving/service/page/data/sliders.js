// Twelve sliders that change a still of the avatar.

import { blobUrl, request } from "./api.js";
import { announce, doing, errorPlace, h } from "./dom.js";
import { rangeField } from "./options.js";

const NAMES = {
  pitch: "Nod",
  yaw: "Turn",
  roll: "Tilt",
  blink: "Blink",
  brow: "Brows",
  wink: "Wink",
  pupil_x: "Look sideways",
  pupil_y: "Look up or down",
  aaa: "Mouth “ah”",
  eee: "Mouth “ee”",
  woo: "Mouth “oo”",
  smile: "Smile",
};

/**
 * Return { panel, warm(), redraw() }; warm() lets the service load the avatar before a slider moves.
 * @param size returns the wanted length of a still's longer side, pixels
 * @param show receives the address of each still
 * @param render makes a video of key frames
 */
export function slidersPanel({ settings, avatarId, signal, size, show, render }) {
  const errors = errorPlace();
  const fields = settings.sliders.map((slider) => {
    const step = slider.highest > 1 ? 1 : 0.05;
    const field = rangeField(`slider-${slider.name}`, NAMES[slider.name] ?? slider.name, slider.lowest, slider.highest, step, 0, slider.meaning.replace(/ in \[[^\]]*\]/, ""));
    field.input.addEventListener("input", changed);
    return [slider.name, field];
  });
  let still = null;
  let drawing = false;
  let newest = null;
  let warmed = !settings.draws_stills;

  const values = () => Object.fromEntries(fields.map(([name, { input }]) => [name, input.valueAsNumber]).filter(([, value]) => value));

  // One request at a time: while a still is drawn, only the newest values wait.
  async function changed() {
    if (!settings.draws_stills) return;
    newest = values();
    if (drawing) return;
    drawing = true;
    try {
      while (newest) {
        const sliders = newest;
        newest = null;
        await draw(sliders);
      }
    } catch (error) {
      if (error.name !== "AbortError") errors.show(error.message);
    } finally {
      drawing = false;
    }
  }

  async function fetched(sliders) {
    const json = { sliders, max_size: size() };
    return (await request("POST", `/v1/avatars/${avatarId}/stills`, { json, signal })).blob();
  }

  async function draw(sliders) {
    const blob = await fetched(sliders);
    if (still) URL.revokeObjectURL(still);
    still = blobUrl(blob);
    errors.clear();
    show(still);
    save.href = still;
    save.hidden = false;
    announce("The picture has changed");
  }

  const reset = h("button", { type: "button", class: "quiet" }, "Reset");
  reset.addEventListener("click", () => {
    for (const [, field] of fields) field.set(0);
    changed();
  });
  const save = h("a", { class: "button quiet", download: "still.jpg", hidden: true }, "Download the picture");
  const film = h("button", { type: "button" }, "Make a video that moves there and back");
  film.addEventListener("click", doing(errors, async () => {
    if (!Object.keys(values()).length) throw new Error("Move a slider first.");
    await render({ fps: 25, keys: [{ time: 0 }, { time: 1, ...values() }, { time: 1.6, ...values() }, { time: 2.6 }] });
  }));
  const off = h("p", { class: "notice" }, "This service draws no single pictures; the sliders can still make a video.");
  return {
    redraw: changed,
    warm() {
      if (!warmed) fetched({}).catch(() => {});
      warmed = true;
    },
    panel: h("div", { class: "stack" }, !settings.draws_stills && off, h("div", { class: "fields" }, fields.map(([, { field }]) => field)), h("div", { class: "row" }, film, reset, save), errors.place),
  };
}
