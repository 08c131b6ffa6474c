"use strict";
const one = (query) => document.querySelector(query);
const all = (query) => [...document.querySelectorAll(query)];

one("#landmarks").addEventListener("change", (event) => document.body.classList.toggle("bare", !event.target.checked));
one("#side").addEventListener("input", (event) =>
  document.documentElement.style.setProperty("--tile", `${event.target.value}px`));
one("#theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
});

function filter() {
  const words = one("#search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const split = one("#split") ? one("#split").value : "";
  const code = one(".chips [aria-pressed=true]")?.dataset.code ?? "";
  const matches = (name) => words.every((word) => name.toLowerCase().includes(word));
  let shown = 0;
  for (const strip of all(".strip")) {
    strip.hidden = !matches(strip.dataset.name) || (split && strip.dataset.split !== split);
    shown += !strip.hidden;
  }
  for (const reject of all(".reject")) reject.hidden = !matches(reject.dataset.name);
  for (const reason of all(".reason")) reason.hidden = Boolean(code) && reason.dataset.code !== code;
  if (one("#nothing")) one("#nothing").hidden = shown > 0;
}
one("#search").addEventListener("input", filter);
one("#split")?.addEventListener("change", filter);
for (const chip of all(".chips button"))
  chip.addEventListener("click", () => {
    for (const other of all(".chips button")) other.setAttribute("aria-pressed", String(other === chip));
    filter();
  });

const dialog = one("dialog");
let current = null;
function enlarge(tile) {
  current = tile;
  one("dialog .large").replaceChildren(...[...tile.children].map((child) => child.cloneNode(true)));
  one("dialog p").textContent = `${tile.closest(".strip").dataset.name} · ${tile.title}`;
  if (!dialog.open) dialog.showModal();
}
function step(by) {
  const tiles = all(".strip:not([hidden]) .tile");
  const next = tiles[tiles.indexOf(current) + by];
  if (next) enlarge(next);
}
for (const tile of all(".tile")) tile.addEventListener("click", () => enlarge(tile));
dialog.addEventListener("click", () => dialog.close());
document.addEventListener("keydown", (event) => {
  if (!dialog.open) return;
  if (event.key === "ArrowRight") step(1);
  if (event.key === "ArrowLeft") step(-1);
});
document.body.dataset.ready = "yes";
