// The camera: a picture of a person, or a recording to drive a portrait with.

import { h } from "./dom.js";

const MAX_RECORDING_S = 20;

export function hasCamera() {
  return Boolean(navigator.mediaDevices?.getUserMedia); // browsers offer it on https and on this machine only
}

export function canRecord() {
  return hasCamera() && "MediaRecorder" in window;
}

/** Open the camera and take a picture. Returns a JPEG file, or null when it was closed. */
export function takePicture() {
  return withCamera("Take a picture", false, (screen, done) => {
    const shoot = h("button", { type: "button" }, "Take the picture");
    shoot.addEventListener("click", () => {
      const canvas = h("canvas", {});
      [canvas.width, canvas.height] = [screen.videoWidth, screen.videoHeight];
      canvas.getContext("2d").drawImage(screen, 0, 0);
      canvas.toBlob((blob) => done(new File([blob], "camera.jpg", { type: "image/jpeg" })), "image/jpeg", 0.95);
    });
    return shoot;
  });
}

/** Open the camera and record up to twenty seconds. Returns a video file, or null when it was closed. */
export function recordVideo() {
  return withCamera("Record a driving video", true, (screen, done) => {
    const button = h("button", { type: "button" }, "Start recording");
    let recorder = null;
    button.addEventListener("click", () => {
      if (recorder) return recorder.stop();
      const chunks = [];
      recorder = new MediaRecorder(screen.srcObject);
      recorder.addEventListener("dataavailable", (event) => chunks.push(event.data));
      recorder.addEventListener("stop", () => {
        const kind = recorder.mimeType.split(";")[0] || "video/webm";
        done(new File(chunks, `recording.${kind.split("/")[1]}`, { type: kind }));
      });
      recorder.start();
      button.textContent = "Stop recording";
      setTimeout(() => recorder.state === "recording" && recorder.stop(), MAX_RECORDING_S * 1000);
    });
    return button;
  });
}

async function withCamera(title, audio, control) {
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: { ideal: 1280 } }, audio }).catch((error) => {
    throw new Error(error.name === "NotFoundError" ? "There is no camera." : "The browser does not give access to the camera.");
  });
  return new Promise((resolve) => {
    let taken = null;
    const screen = h("video", { autoplay: true, playsinline: true, muted: true, "aria-label": "What the camera sees" });
    screen.srcObject = stream;
    const dialog = h("dialog", { class: "camera", "aria-label": title });
    const done = (file) => {
      taken = file;
      dialog.close();
    };
    const close = h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close");
    dialog.append(h("h2", {}, title), screen, h("div", { class: "row end" }, close, control(screen, done)));
    dialog.addEventListener("close", () => {
      stream.getTracks().forEach((track) => track.stop());
      dialog.remove();
      resolve(taken);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
