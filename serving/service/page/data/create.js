// A new avatar: pictures, consent, upload.

import { blobUrl, newId, upload } from "./api.js";
import { hasCamera, takePicture } from "./camera.js";
import { announce, doing, errorPlace, go, h, heading } from "./dom.js";
import { faceField } from "./face.js";

const STATEMENT = "I am the person in these pictures, or this person has agreed to be animated.";
const MIB = 1024 * 1024;

export function createView({ settings }) {
  const errors = errorPlace();
  const pictures = [];
  const list = h("ul", { class: "thumbnails", "aria-label": "Chosen pictures" });
  const input = h("input", { type: "file", id: "pictures", accept: "image/*,.heic,.heif", multiple: true, class: "unseen" });
  const sent = h("progress", { max: "1", value: 0, hidden: true, "aria-label": "Upload" });
  const uploadId = { value: newId() };
  const face = faceField();

  function add(files) {
    errors.clear();
    for (const file of files) {
      if (file.size > settings.max_picture_bytes) {
        errors.show(`${file.name} is larger than ${Math.round(settings.max_picture_bytes / MIB)} MiB.`);
      } else if (pictures.length >= settings.max_pictures) {
        errors.show(`At most ${settings.max_pictures} pictures make an avatar.`);
      } else {
        pictures.push(file);
        list.append(thumbnail(file));
      }
    }
    changed();
  }

  function thumbnail(file) {
    const picture = h("img", { src: blobUrl(file), alt: file.name });
    picture.addEventListener("error", () => picture.replaceWith(h("span", { class: "name" }, file.name)));
    const drop = h("button", { type: "button", class: "remove", "aria-label": `Remove ${file.name}` }, "×");
    const item = h("li", {}, picture, drop);
    drop.addEventListener("click", () => {
      pictures.splice(pictures.indexOf(file), 1);
      item.remove();
      changed();
      input.focus();
    });
    return item;
  }

  function changed() {
    uploadId.value = newId();
    send.hidden = pictures.length === 0;
    face.show(pictures.length === 1 ? blobUrl(pictures[0]) : null);
    announce(pictures.length === 1 ? "1 picture" : `${pictures.length} pictures`);
  }

  input.addEventListener("change", () => {
    add(input.files);
    input.value = "";
  });
  const zone = h(
    "label",
    { for: "pictures", class: "zone" },
    h("strong", {}, "Drop pictures of one person here"),
    h("span", {}, "or choose files. One picture is enough; more show other sides of the face."),
  );
  for (const type of ["dragenter", "dragover"]) {
    zone.addEventListener(type, (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
  }
  for (const type of ["dragleave", "drop"]) zone.addEventListener(type, () => zone.classList.remove("over"));
  zone.addEventListener("drop", (event) => {
    event.preventDefault();
    add(event.dataTransfer.files);
  });

  const shoot = h("button", { type: "button", class: "quiet" }, "Use the camera");
  shoot.addEventListener("click", doing(errors, async () => {
    const file = await takePicture();
    if (file) add([file]);
  }));

  const statement = h("textarea", { id: "statement", rows: "2", maxlength: "2000" }, STATEMENT);
  const agree = h("input", { type: "checkbox", id: "agree", required: settings.require_consent });
  const consent = h(
    "fieldset",
    {},
    h("legend", {}, "Consent"),
    h("label", { for: "statement", class: "small" }, "Statement, which is kept with the avatar"),
    statement,
    h("label", { class: "check" }, agree, settings.require_consent ? "I agree to this statement (required)" : "I agree to this statement"),
  );

  const send = h("div", { class: "stack", hidden: true }, face.field, consent, h("div", {}, h("button", { class: "main" }, "Make the avatar")), sent);
  const submit = doing(errors, async () => {
    const form = new FormData();
    for (const file of pictures) form.append("pictures", file, file.name);
    if (face.value() !== "0") form.append("face", face.value());
    if (agree.checked && statement.value.trim()) form.append("consent", statement.value.trim());
    sent.hidden = false;
    try {
      const job = await upload("/v1/avatars", form, (share) => (sent.value = share), uploadId.value);
      go(`#/avatar/${job.avatar_id}`);
    } finally {
      sent.hidden = true;
    }
  });
  return h(
    "section",
    { class: "narrow" },
    heading("Bring a portrait to life"),
    h("p", { class: "lead" }, "A picture becomes an avatar. A video, or twelve sliders, then move it."),
    h("form", { class: "stack", onsubmit: submit }, input, zone, hasCamera() && h("div", {}, shoot), list, send, errors.place),
  );
}
