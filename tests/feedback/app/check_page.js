// What a machine can see of accessibility in the page as it stands; each fault as a sentence.
() => {
  const parse = (c) => c.match(/[\d.]+/g).map(Number);
  const linear = (v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  const light = (c) => {
    const [r, g, b] = c.slice(0, 3).map((v) => linear(v / 255));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const opaque = (c) => c.length === 3 || c[3] === 1;
  const behind = (e) => {
    for (; e; e = e.parentElement) {
      const colour = parse(getComputedStyle(e).backgroundColor);
      if (opaque(colour)) return colour;
    }
    return [255, 255, 255];
  };
  const seen = (e) => e.checkVisibility({ visibilityProperty: true }) && !e.closest(".unseen, .skip");
  const texts = (ids) => ids.split(" ").map((id) => document.getElementById(id)?.textContent ?? "").join(" ");
  const name = (e) =>
    [
      e.ariaLabel,
      texts(e.getAttribute("aria-labelledby") ?? ""),
      [...(e.labels ?? [])].map((label) => label.textContent).join(" "),
      e.textContent,
      e.title,
    ].find((text) => text?.trim());
  const faults = [];

  const checkText = (e) => {
    const [a, b] = [light(parse(getComputedStyle(e).color)), light(behind(e))];
    const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < 4.5) faults.push(`contrast ${ratio.toFixed(2)}: ${e.tagName}.${e.className} ${e.textContent.trim()}`);
  };
  const checkControl = (e) => {
    if (!name(e)) faults.push(`no name: ${e.outerHTML.slice(0, 120)}`);
    const label = e.innerText?.trim().toLowerCase();
    const unlike = e.matches("button[aria-label]") && label && !e.ariaLabel.toLowerCase().includes(label.split("\n")[0]);
    if (unlike && !e.querySelector("[aria-hidden]")) faults.push(`named unlike its words: ${e.outerHTML.slice(0, 120)}`);
    const { width, height } = e.getBoundingClientRect();
    const small = e.matches("button, select, textarea") && Math.min(width, height) < 24;
    if (small) faults.push(`small target, ${width} x ${height}: ${e.outerHTML.slice(0, 120)}`);
  };
  for (const e of document.querySelectorAll("body *")) {
    if (!seen(e)) continue;
    if ([...e.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim())) checkText(e);
    if (e.matches('button, a[href], input:not([type=hidden]), select, textarea, [tabindex="0"]')) checkControl(e);
  }

  const ids = [...document.querySelectorAll("[id]")].map((e) => e.id);
  faults.push(...ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `id twice: ${id}`));
  for (const attribute of ["aria-labelledby", "aria-describedby"]) {
    for (const e of document.querySelectorAll(`[${attribute}]`)) {
      const lost = e.getAttribute(attribute).split(" ").filter((id) => !ids.includes(id));
      faults.push(...lost.map((id) => `${attribute} refers to nothing: ${id}`));
    }
  }
  const titles = [...document.querySelectorAll("h1")].filter((e) => e.checkVisibility()).length;
  if (titles !== 1) faults.push(`${titles} titles`);
  return faults;
}
