// A job that waits or runs: its place in the queue, stage, progress and preview.

import { blobUrl, post, request } from "./api.js";
import { announce, doing, errorPlace, h } from "./dom.js";

const STAGES = {
  pictures: "Looking for the face",
  "fine-tuning": "Learning the face",
  avatar: "Loading the avatar",
  rendering: "Drawing frames",
  saving: "Saving",
};
const PREVIEW_MS = 1500;

/** Return { panel, update(job) } of an active job. */
export function progressPanel(signal) {
  const errors = errorPlace();
  const line = h("p", { class: "stage" });
  const bar = h("progress", { "aria-label": "Progress" });
  const preview = h("img", { class: "preview", alt: "The last frame that was drawn", hidden: true });
  let job = null;
  let told = "";
  let previewAt = 0;
  const cancel = h("button", { type: "button", class: "quiet" }, "Cancel");
  cancel.addEventListener("click", doing(errors, () => post(`/v1/jobs/${job.id}/cancel`)));

  async function refresh() {
    previewAt = Date.now();
    try {
      const blob = await (await request("GET", `/v1/jobs/${job.id}/preview`, { signal })).blob();
      URL.revokeObjectURL(preview.src);
      preview.src = blobUrl(blob);
      preview.hidden = false;
    } catch {
      // There is none yet.
    }
  }

  function update(now) {
    job = now;
    const text = describe(job);
    line.textContent = text.long;
    if (job.progress) {
      bar.max = job.progress.total;
      bar.value = job.progress.done;
    } else {
      bar.removeAttribute("value");
    }
    const quarter = job.progress ? Math.floor((4 * job.progress.done) / job.progress.total) * 25 : 0;
    if (told !== text.short + quarter) announce(quarter ? `${text.short}, ${quarter} percent` : text.short);
    told = text.short + quarter;
    // The first half of the progress is that of following the driver's face: there is no picture yet.
    const draws = job.stage === "rendering" && 2 * job.progress?.done > job.progress?.total;
    if (draws && Date.now() > previewAt + PREVIEW_MS) refresh();
  }
  return { panel: h("div", { class: "panel progress" }, preview, line, bar, h("div", {}, cancel), errors.place), update };
}

export function describe(job) {
  if (job.state === "queued") {
    const place = job.position === 1 ? "Next in the queue" : `Number ${job.position} in the queue`;
    return { short: place, long: place };
  }
  const short = STAGES[job.stage] ?? "Starting";
  const unit = job.kind === "video" ? "frame" : "step";
  const counted = job.progress && job.stage !== "saving";
  return { short, long: counted ? `${short}: ${unit} ${job.progress.done} of ${job.progress.total}` : short };
}
