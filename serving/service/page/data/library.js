// All avatars and videos.

import { avatarCard, driverNames, pagedList, videoCard } from "./cards.js";
import { h, heading } from "./dom.js";

const PAGE = 12;

export async function libraryView({ signal }) {
  const names = await driverNames(signal);
  const [avatars, videos] = await Promise.all([
    pagedList(`/v1/avatars?limit=${PAGE}`, "avatars", (avatar) => avatarCard(avatar, signal), "There are no avatars yet.", signal),
    pagedList(
      `/v1/jobs?kind=video&limit=${PAGE}`,
      "jobs",
      (job) => videoCard(job, signal, names),
      "There are no videos yet.",
      signal,
    ),
  ]);
  return h("div", { class: "stack" }, heading("Library"), h("section", {}, h("h2", {}, "Avatars"), avatars), h("section", {}, h("h2", {}, "Videos"), videos));
}
