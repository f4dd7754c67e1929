// One plain line about what has not reached the server yet.

const WHY = {
  offline: "The server cannot be reached.",
  server: "The server has trouble.",
  busy: "The server asks for patience.",
  "signed-out": "You are signed out.",
};

/** Show the state of the outbox (`changed` of Outbox) in #net; nothing where all is stored. */
export function showNet({ waiting, refused, reason, kept, dismiss }) {
  const net = document.getElementById("net");
  const parts = [];
  if (waiting && reason) {
    const what = waiting === 1 ? "One answer is" : `${waiting} answers are`;
    parts.push(line(`${WHY[reason]} ${what} saved here and will be sent.`));
    if (reason === "signed-out") parts.push(link("/login?next=/label", "Sign in again"));
  }
  if (!kept) parts.push(line("This browser keeps no copies: leave the page open until all is sent."));
  for (const entry of refused) {
    parts.push(line(`Not accepted: ${entry.reason}. What you entered is kept, here and on the server.`));
    parts.push(entry.link ? link(entry.link, "Read them") : button("Dismiss", () => dismiss(entry.key)));
  }
  net.replaceChildren(...parts);
  net.classList.toggle("bad", refused.length > 0);
  net.hidden = !parts.length;
}

function line(text) {
  const p = document.createElement("p");
  p.textContent = text;
  return p;
}

function link(href, text) {
  const a = document.createElement("a");
  Object.assign(a, { href, textContent: text });
  return a;
}

function button(text, act) {
  const b = document.createElement("button");
  Object.assign(b, { type: "button", className: "quiet", textContent: text });
  b.addEventListener("click", act);
  return b;
}
