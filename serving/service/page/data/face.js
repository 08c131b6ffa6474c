// Which face of a picture is meant: one by its size, or the one that is pointed at.

import { announce, h } from "./dom.js";

const BY_SIZE = ["The largest", "The second largest", "The third largest", "The fourth largest"];
const POINTED = "pointed";

/** Return { field, show(address), value() }: `show` takes the address of the only picture, or null if there are several. */
export function faceField() {
  const pointed = h("option", { value: POINTED, hidden: true }, "The one that I pointed at");
  const select = h("select", { id: "face" }, BY_SIZE.map((text, index) => h("option", { value: index }, text)), pointed);
  const picture = h("img", { alt: "" });
  const spot = h("span", { class: "spot", hidden: true });
  const pointing = h("div", { class: "pointing" }, picture, spot);
  const hint = h("p", { class: "hint" }, "Or click the face in the picture.");
  let point = "";

  function unpoint() {
    spot.hidden = pointed.hidden = true;
    if (select.value === POINTED) select.value = "0";
  }

  picture.addEventListener("click", (event) => {
    const [x, y] = [event.offsetX / picture.clientWidth, event.offsetY / picture.clientHeight];
    point = `${Math.round(x * picture.naturalWidth)},${Math.round(y * picture.naturalHeight)}`;
    spot.style.left = `${100 * x}%`;
    spot.style.top = `${100 * y}%`;
    spot.hidden = pointed.hidden = false;
    select.value = POINTED;
    announce("The face is chosen");
  });
  select.addEventListener("change", () => (spot.hidden = select.value !== POINTED));
  // A picture that the browser cannot show, such as HEIC, cannot be pointed at.
  picture.addEventListener("error", () => (pointing.hidden = hint.hidden = true));
  picture.addEventListener("load", () => (pointing.hidden = hint.hidden = false));

  const field = h(
    "details",
    { class: "options" },
    h("summary", {}, "Several people in the picture?"),
    h("div", { class: "field" }, h("label", { for: "face" }, "Whose face"), select, hint),
    pointing,
  );
  return {
    field,
    show(address) {
      unpoint();
      pointing.hidden = hint.hidden = true;
      if (address) picture.src = address;
      else picture.removeAttribute("src");
    },
    value: () => (select.value === POINTED ? point : select.value),
  };
}
