// The service's HTTP interface: requests with the key, problems as errors, events, media.

const KEY = "sfumato-key";
const ENDED = ["done", "failed", "cancelled"];
let blobs = [];

/** An error that the service reports; `status` is that of HTTP, 0 when it cannot be reached. */
export class Problem extends Error {
  constructor(status, detail) {
    super(detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (text) => sessionStorage.setItem(KEY, text),
  clear: () => sessionStorage.removeItem(KEY),
};

function headers(more) {
  const sent = key.get();
  return sent ? { ...more, Authorization: `Bearer ${sent}` } : { ...more };
}

async function problem(response) {
  const body = await response.json().catch(() => ({}));
  if (response.status === 401) dispatchEvent(new Event("key-refused"));
  return new Problem(response.status, sentence(body.detail ?? `The service answers ${response.status}.`));
}

function sentence(text) {
  const whole = text.charAt(0).toUpperCase() + text.slice(1);
  return /[.!?]$/.test(whole) ? whole : `${whole}.`;
}

/** Send a request. Returns the response; throws Problem. */
export async function request(method, path, { json, body, more, signal } = {}) {
  const type = json === undefined ? {} : { "Content-Type": "application/json" };
  let response;
  try {
    const content = json === undefined ? body : JSON.stringify(json);
    response = await fetch(path, { method, body: content, headers: headers({ ...type, ...more }), signal });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The service cannot be reached. Is it running?");
  }
  if (!response.ok) throw await problem(response);
  return response;
}

export async function get(path, signal) {
  return (await request("GET", path, { signal })).json();
}

export async function post(path, json, signal) {
  return (await request("POST", path, { json, signal })).json();
}

export async function remove(path) {
  await request("DELETE", path);
}

/** Upload a form; `onShare` receives the share that is sent. A repeated upload with one `id` makes one object. */
export function upload(path, form, onShare, id) {
  return new Promise((resolve, reject) => {
    const sending = new XMLHttpRequest();
    sending.open("POST", path);
    for (const [name, value] of Object.entries(headers(id ? { "Idempotency-Key": id } : {}))) {
      sending.setRequestHeader(name, value);
    }
    sending.upload.addEventListener("progress", (event) => event.lengthComputable && onShare(event.loaded / event.total));
    sending.addEventListener("error", () => reject(new Problem(0, "The upload was interrupted. Try again.")));
    sending.addEventListener("load", async () => {
      const response = new Response(sending.responseText, { status: sending.status });
      if (response.ok) resolve(await response.json());
      else reject(await problem(response));
    });
    sending.send(form);
  });
}

/** Return a random id. */
export function newId() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** Follow a job by its events until it ends; a lost connection is made again. Returns the last state. */
export async function follow(jobId, onJob, signal) {
  while (!signal.aborted) {
    try {
      const response = await request("GET", `/v1/jobs/${jobId}/events`, { signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let rest = ""; ; ) {
        const { done, value } = await reader.read().catch(() => ({ done: true })); // the connection is lost
        if (done) break;
        const events = (rest + value).split("\n\n");
        rest = events.pop();
        for (const event of events) {
          if (event.startsWith("event: deleted")) throw new Problem(404, "This job was deleted.");
          const data = /^data: (.*)$/m.exec(event);
          if (!data) continue;
          const job = JSON.parse(data[1]);
          onJob(job);
          if (ENDED.includes(job.state)) return job;
        }
      }
    } catch (error) {
      const lost = error instanceof Problem && (error.status === 0 || error.status >= 500);
      if (signal.aborted || !lost) throw error;
    }
    await pause(1000, signal);
  }
  throw new DOMException("left", "AbortError");
}

export function pause(ms, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, ms);
    signal?.addEventListener("abort", () => {
      clearTimeout(timer);
      reject(new DOMException("left", "AbortError"));
    });
  });
}

/** Return an address for img and video: the path itself, or, with a key, a blob that was fetched with it. */
export async function media(path, signal) {
  if (!key.get()) return path;
  return blobUrl(await (await request("GET", path, { signal })).blob());
}

/** Return an address of a blob; it holds until the view is left. */
export function blobUrl(blob) {
  const url = URL.createObjectURL(blob);
  blobs.push(url);
  return url;
}

export function forgetBlobs() {
  blobs.forEach(URL.revokeObjectURL, URL);
  blobs = [];
}
