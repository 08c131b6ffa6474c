// The choice of a driving video: built in, stored, uploaded or recorded.

import { get, media, remove, upload } from "./api.js";
import { canRecord, recordVideo } from "./camera.js";
import { announce, calm, confirmed, doing, errorPlace, h } from "./dom.js";

/** Return { panel, chosen() }, where chosen() is a driver's id or null. */
export async function driversPanel({ settings, signal }) {
  const errors = errorPlace();
  const list = h("div", { class: "cards drivers", role: "radiogroup", "aria-label": "Driving video" });
  const sent = h("progress", { max: "1", value: 0, hidden: true, "aria-label": "Upload" });
  const { drivers } = await get(settings.drivers_url, signal);
  const seen = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) load(target);
  });
  signal.addEventListener("abort", () => seen.disconnect());
  list.append(...drivers.map(card));
  list.querySelector("input")?.setAttribute("checked", "");

  function load(preview) {
    seen.unobserve(preview);
    media(preview.dataset.path, signal).then(
      (url) => (preview.src = url),
      () => preview.replaceWith(h("span", { class: "blank" })),
    );
  }

  function card(driver) {
    const input = h("input", { type: "radio", name: "driver", value: driver.id, class: "unseen" });
    const preview = h("video", { muted: true, loop: true, playsinline: true, autoplay: !calm(), preload: "metadata", "data-path": driver.content_url, "aria-hidden": "true", tabindex: "-1" });
    preview.addEventListener("error", () => preview.replaceWith(h("span", { class: "blank" }, "No preview")));
    seen.observe(preview);
    const item = h("div", { class: "card" }, h("label", {}, input, preview, h("span", {}, driver.name)));
    if (!driver.builtin) {
      const drop = h("button", { type: "button", class: "remove", "aria-label": `Delete ${driver.name}` }, "×");
      drop.addEventListener("click", doing(errors, async () => {
        if (!(await confirmed(`Delete “${driver.name}”?`, "Videos that wait for it will fail; finished ones stay.", "Delete"))) return;
        await remove(`/v1/drivers/${driver.id}`);
        item.remove();
        announce("Deleted");
      }));
      item.append(drop);
    }
    return item;
  }

  async function add(file) {
    const form = new FormData();
    form.append("driver", file, file.name);
    sent.hidden = false;
    try {
      const driver = await upload("/v1/drivers", form, (share) => (sent.value = share));
      const item = card(driver);
      list.prepend(item);
      item.querySelector("input").checked = true;
      item.querySelector("input").focus();
      announce(`${driver.name} is chosen`);
    } finally {
      sent.hidden = true;
    }
  }

  const input = h("input", { type: "file", id: "driver-file", accept: "video/*,.parquet,.csv,.json", class: "unseen" });
  input.addEventListener("change", doing(errors, async () => {
    const [file] = input.files;
    if (file && file.size > settings.max_body_bytes) {
      throw new Error(`${file.name} is larger than ${Math.round(settings.max_body_bytes / 1024 / 1024)} MiB.`);
    }
    if (file) await add(file);
    input.value = "";
  }));
  const record = h("button", { type: "button", class: "quiet" }, "Record yourself");
  record.addEventListener("click", doing(errors, async () => {
    const file = await recordVideo();
    if (file) await add(file);
  }));
  const more = h("div", { class: "row" }, input, h("label", { for: "driver-file", class: "button quiet" }, "Upload a video"), canRecord() && record);
  return {
    panel: h("div", { class: "stack" }, list, more, sent, errors.place),
    chosen: () => list.querySelector("input:checked")?.value ?? null,
  };
}
