// One plain line about what has not reached the server yet.

const WHY = {
  offline: "The server cannot be reached.",
  server: "The server has trouble.",
  busy: "The server asks for patience.",
  "signed-out": "You are signed out.",
};

/** Show the state of the outbox (`changed` of Outbox) in #net; nothing where all is stored. */
export function showNet({ waiting, refused, reason, kept }) {
  const net = document.getElementById("net");
  const parts = [];
  if (waiting && reason) {
    parts.push(`${WHY[reason]} ${waiting === 1 ? "One answer is" : `${waiting} answers are`} saved here and will be sent.`);
  }
  if (!kept) parts.push("This browser keeps no copies: leave the page open until all is sent.");
  for (const entry of refused) parts.push(`Not accepted: ${entry.reason} It is kept on the server for the owner to see.`);
  net.replaceChildren(...parts.map(paragraph));
  if (waiting && reason === "signed-out") net.append(link());
  net.classList.toggle("bad", refused.length > 0);
  net.hidden = !parts.length;
}

function paragraph(text) {
  const p = document.createElement("p");
  p.textContent = text;
  return p;
}

function link() {
  const a = document.createElement("a");
  a.href = "/login?next=/label";
  a.textContent = "Sign in again";
  return a;
}
