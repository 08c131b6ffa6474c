// Options of a video, in a section that can be folded.

import { h } from "./dom.js";

const PARTS = { lips: "Lips", eyes: "Eyelids", pose: "Head", brows: "Brows", gaze: "Gaze" };
const STRENGTHS = [
  ["expression", "Expression", 0, 2, 1, "1 is as the driver; 0 is still."],
  ["head_motion", "Head motion", 0, 2, 1, "1 is as the driver; 0 is still."],
  ["gaze", "Gaze", 0, 2, 1, "1 is as the driver; 0 is still."],
  ["smoothing", "Smoothing", 0, 1, 0.5, "More makes a calmer, later motion."],
];
const CHOICES = [
  ["frame", "Show", [["full", "The whole picture"], ["crop", "The face only"]]],
  ["motion", "Motion", [["relative", "Changes of the driver's face"], ["absolute", "The driver's expression itself"]]],
  ["on_missing", "Where the driver's face is missing", [["fill", "Go over to what follows"], ["hold", "Hold the last frame"], ["rest", "Return to rest"], ["cut", "Leave the frames out"], ["fail", "Give up"]]],
  ["driver_face", "Whose face in the video", [["0", "The largest in its first frame"], ["1", "The second largest"], ["2", "The third largest"], ["3", "The fourth largest"]]],
  ["max_size", "Longer side", [["1280", "1280 pixels"], ["720", "720 pixels"], ["512", "512 pixels"], ["1920", "1920 pixels"]]],
];

/** Return { section, values() }. */
export function optionsSection(parts) {
  const boxes = parts.map((name) => [name, h("input", { type: "checkbox", checked: true, name })]);
  const ranges = STRENGTHS.map(([name, label, lowest, highest, value, hint]) => [name, rangeField(`option-${name}`, label, lowest, highest, 0.05, value, hint)]);
  const selects = CHOICES.map(([name, label, choices]) => [
    name,
    label,
    h("select", { id: `option-${name}` }, choices.map(([value, text]) => h("option", { value }, text))),
  ]);
  const beside = h("input", { type: "checkbox" });
  const section = h(
    "details",
    { class: "options" },
    h("summary", {}, "Options"),
    h(
      "div",
      { class: "fields" },
      h("fieldset", { class: "wide" }, h("legend", {}, "Parts that move"), h("div", { class: "row" }, boxes.map(([name, box]) => h("label", { class: "check" }, box, PARTS[name] ?? name)))),
      ranges.map(([, range]) => range.field),
      selects.map(([name, label, select]) => h("div", { class: "field" }, h("label", { for: `option-${name}` }, label), select)),
      h("label", { class: "check wide" }, beside, "Also make a video that shows source, driver and result side by side"),
    ),
  );
  return {
    section,
    values() {
      const chosen = boxes.filter(([, box]) => box.checked).map(([name]) => name);
      if (!chosen.length) throw new Error("Choose at least one part that moves.");
      const values = { parts: chosen.join(","), side_by_side: beside.checked };
      for (const [name, range] of ranges) values[name] = range.input.valueAsNumber;
      for (const [name, , select] of selects) values[name] = name === "max_size" ? Number(select.value) : select.value;
      return values;
    },
  };
}

/** Return { field, input, set(value) } of a labelled slider that shows its value. */
export function rangeField(id, label, lowest, highest, step, value, hint) {
  const output = h("output", { for: id }, String(value));
  const input = h("input", { type: "range", id, min: lowest, max: highest, step, "aria-describedby": `${id}-hint` });
  const show = () => (output.textContent = String(input.valueAsNumber));
  input.value = value;
  input.addEventListener("input", show);
  const field = h("div", { class: "field range" }, h("label", { for: id }, label), output, input, h("p", { class: "hint", id: `${id}-hint` }, hint));
  const set = (now) => {
    input.value = now;
    show();
  };
  return { field, input, set };
}
