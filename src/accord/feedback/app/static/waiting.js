// The page with nothing to do: sends what still waits, and takes the last answer back.
import { Outbox, post } from "./outbox.js";
import { showNet } from "./net.js";

const facts = JSON.parse(document.getElementById("facts").textContent);
const outbox = new Outbox(facts.labeler, { changed: showNet });
outbox.reconcile();

document.getElementById("undo").addEventListener("click", async () => {
  const { status } = await post("/label/back", {});
  if (status === 200) location.assign("/label");
});
