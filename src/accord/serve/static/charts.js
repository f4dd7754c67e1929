// The curves: what is drawn, how, and the marks on them. Knows rows, a step that is shown, and verdicts; no server.

const SHARE = (value) => `${(100 * value).toFixed(value && Math.abs(value) < 0.0995 ? 1 : 0)} %`;
const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3], [4, 4], [1, 2]];
const HEIGHT = 176;

// A number as short as it stays honest.
export const short = (value) => {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size === 0 || Number.isInteger(value)) return String(value);
  if (size >= 1000) return value.toFixed(0);
  if (size >= 0.01) return value.toFixed(size >= 100 ? 1 : size >= 10 ? 2 : 3);
  return value.toPrecision(2);
};

const round = (tick) => String(Number(tick.toPrecision(6)));  // 0.30000000000000004 is 0.3

// right: a scale of its own, on the right. watched: stands for every scorer that is watched.
const PANELS = [
  { title: "Reward", series: [{ key: "reward", name: "reward" }, { watched: true, right: true }] },
  { title: "KL to the reference", unit: "nats a completion", zero: true, series: [
    { key: "kl", name: "exact" }, { key: "kl_sampled", name: "sampled" }, { key: "beta", name: "beta", right: true } ] },
  { title: "Length", unit: "tokens", series: [
    { key: "length", name: "tokens" }, { key: "truncated", name: "cut", right: true, share: true } ] },
  { title: "Entropy", unit: "nats a token", series: [{ key: "entropy", name: "entropy" }] },
  { title: "Value explained", unit: "1 is a perfect critic", series: [{ key: "value_explained", name: "explained" }] },
  { title: "Clipped share", series: [{ key: "clipped_share", name: "clipped", share: true }] },
  { title: "Signs in the text", unit: "shares", wide: true, series: [
    { key: "repeated", name: "repeated", share: true }, { key: "copied", name: "copied", share: true },
    { key: "alike", name: "alike", share: true }, { key: "distinct", name: "distinct", share: true },
    { key: "phrase", name: "one phrase", share: true }, { key: "empty", name: "empty", share: true } ] },
];

// The scorers that are watched and never optimised: they alone have an error beside them.
const watched = (row) => Object.keys(row).filter((key) => `${key} error` in row);

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
// light-dark() comes back as written where a property is not registered, so it is resolved on an element.
const probe = document.createElement("span");
probe.hidden = true;
const known = new Map();
const resolved = (name) => {
  if (!known.has(name)) {
    if (!probe.isConnected) document.body.append(probe);
    probe.style.color = `var(${name})`;
    known.set(name, getComputedStyle(probe).color || colour(name));
  }
  return known.get(name);
};

export const MARKS = {
  "warn": { sign: "▲", tone: "warn", word: "Warning" },
  "raise beta": { sign: "◆", tone: "warn", word: "Beta raised" },
  "roll back": { sign: "◀", tone: "bad", word: "Rolled back" },
  "stop": { sign: "■", tone: "good", word: "Stopped" },
};

export class Charts {
  // pick(step) is called where somebody chooses a step on a chart.
  constructor(host, pick) {
    this.host = host;
    this.pick = pick;
    this.rows = [];
    this.spells = [];
    this.shown = 0;
    this.made = new Map();
    this.size = new ResizeObserver((entries) => {
      for (const { target, contentRect } of entries) {
        const chart = target.chart;
        if (chart && contentRect.width) chart.setSize({ width: contentRect.width, height: HEIGHT });
      }
    });
    const repaint = () => { known.clear(); for (const { chart } of this.made.values()) chart.redraw(false, true); };
    new MutationObserver(repaint).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", repaint);
  }

  // Draw what is known now; a panel appears with its first figure and stays.
  draw(rows, spells, shown) {
    this.rows = rows;
    this.spells = spells;
    this.shown = shown;
    const x = rows.map((_, at) => at + 1);
    for (const panel of PANELS) {
      const series = this.present(panel);
      const names = series.map((each) => each.key).join("\n");
      let made = this.made.get(panel);
      if (made && made.names !== names) { this.remove(panel); made = undefined; }
      if (!series.length) continue;
      made ??= this.make(panel, series, names);
      made.chart.setData([x, ...series.map((each) => rows.map((row) => row[each.key] ?? null))]);
      this.tell(made, null);
    }
  }

  present(panel) {
    const last = this.rows.at(-1);
    if (!last) return [];
    const has = (key) => key in last || this.rows.some((row) => key in row);
    return panel.series.flatMap((each) =>
      each.watched ? watched(last).map((key) => ({ ...each, key, name: `${key} (watched)` })) : has(each.key) ? [each] : []);
  }

  remove(panel) {
    const made = this.made.get(panel);
    this.size.unobserve(made.plot);
    made.chart.destroy();
    made.card.remove();
    this.made.delete(panel);
  }

  make(panel, series, names) {
    const card = document.createElement("figure");
    card.className = panel.wide ? "chart wide" : "chart";
    const title = document.createElement("h2");
    title.textContent = panel.title;
    if (panel.unit) {
      const unit = document.createElement("span");
      unit.className = "muted";
      unit.textContent = ` ${panel.unit}`;
      title.append(unit);
    }
    const legend = document.createElement("ul");
    legend.className = "legend";
    const values = series.map((each, at) => legend.appendChild(entry(each, at)).querySelector("b"));
    const plot = document.createElement("div");
    plot.className = "plot";
    plot.setAttribute("role", "img");
    card.append(title, legend, plot);
    const after = PANELS.slice(PANELS.indexOf(panel) + 1).map((each) => this.made.get(each)?.card).find(Boolean);
    this.host.insertBefore(card, after ?? null);
    const chart = new uPlot(this.options(panel, series, plot.clientWidth || 300), null, plot);
    plot.chart = chart;
    const made = { panel, series, names, card, plot, values, chart };
    chart.over.addEventListener("click", () => { if (chart.cursor.idx != null) this.pick(chart.cursor.idx + 1); });
    this.size.observe(plot);
    this.made.set(panel, made);
    return made;
  }

  options(panel, series, width) {
    const text = () => resolved("--muted");
    const axis = { stroke: text, font: "12px system-ui, sans-serif", ticks: { show: false },
                   grid: { stroke: () => resolved("--grid"), width: 1 } };
    const format = (each) => (_, ticks) => ticks.map((tick) => (each?.share ? `${round(100 * tick)} %` : round(tick)));
    const left = series.find((each) => !each.right);
    const right = series.find((each) => each.right);
    const share = (_, low, high) => [Math.min(0, low ?? 0), Math.min(1.04, Math.max(0.1, (high ?? 0) * 1.1))];
    const free = (_, low, high) => {
      if (low === null) return [0, 1];
      const room = Math.max((high - low) * 0.08, Math.abs(high) * 0.02, 1e-6);
      return [panel.zero && low >= 0 ? 0 : low - room, high + room];
    };
    const axes = [
      { ...axis, size: 28, space: 60, incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000, 50000, 100000],
        values: (_, ticks) => ticks.map(String) },
      { ...axis, scale: "y", size: 50, space: 34, values: format(left) },
    ];
    if (right) axes.push({ ...axis, scale: "r", side: 1, size: 50, space: 34, grid: { show: false }, values: format(right) });
    return {
      width, height: HEIGHT, legend: { show: false }, padding: [14, right ? 0 : 10, 0, 0], axes,
      cursor: { sync: { key: "steps" }, drag: { x: false, y: false }, y: false, points: { size: 7 } },
      scales: { x: { time: false, range: (_, low, high) => [1, Math.max(high ?? 1, 5)] },
                y: { range: left?.share ? share : free }, r: { range: right?.share ? share : free } },
      series: [{}, ...series.map((each, at) => ({
        scale: each.right ? "r" : "y", stroke: () => resolved(`--c${at}`), width: 2, dash: DASHES[at], spanGaps: true,
        points: { show: (u) => u.data[0].length < 25, size: 5, fill: () => resolved(`--c${at}`) } }))],
      hooks: { drawAxes: [(u) => this.paint(u)], setCursor: [(u) => this.hover(u)] },
    };
  }

  // Behind the curves: where each spell of distrust begins, with its sign, how long it lasts, and the step that is shown.
  paint(u) {
    const { ctx, bbox } = u;
    const scale = devicePixelRatio;
    ctx.save();
    ctx.textAlign = "center";
    ctx.font = `${11 * scale}px system-ui, sans-serif`;
    for (const spell of this.spells) {
      const [from, to] = [spell.first, spell.last].map((step) => u.valToPos(step, "x", true));
      if (to < bbox.left - 1 || from > bbox.left + bbox.width + 1) continue;
      ctx.fillStyle = ctx.strokeStyle = resolved(`--${MARKS[spell.action]?.tone ?? "warn"}`);
      ctx.fillRect(from - scale, bbox.top, Math.max(to - from, 0) + 2 * scale, 3 * scale);
      ctx.globalAlpha = 0.45;
      ctx.fillRect(from - scale / 2, bbox.top, scale, bbox.height);
      ctx.globalAlpha = 1;
      ctx.fillText(MARKS[spell.action]?.sign ?? "▲", from, bbox.top - 3 * scale);
    }
    if (this.shown) {
      const at = u.valToPos(this.shown, "x", true);
      ctx.strokeStyle = resolved("--edge");
      ctx.lineWidth = scale;
      ctx.beginPath();
      ctx.moveTo(at, bbox.top);
      ctx.lineTo(at, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.restore();
  }

  hover(u) {
    for (const made of this.made.values()) if (made.chart === u) this.tell(made, u.cursor.idx);
  }

  // The legend's values: under the pointer, else of the step that is shown.
  tell(made, at) {
    const row = this.rows[at ?? this.shown - 1] ?? {};
    made.series.forEach((each, n) => {
      const value = row[each.key];
      made.values[n].textContent = each.share && typeof value === "number" ? SHARE(value) : short(value);
    });
    if (at === null || at === undefined) {
      const said = made.series.map((each, n) => `${each.name} ${made.values[n].textContent}`).join(", ");
      made.plot.setAttribute("aria-label", `${made.panel.title} over the steps; at step ${this.shown}: ${said}`);
    }
  }
}

const entry = (each, at) => {
  const item = document.createElement("li");
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 8");
  svg.setAttribute("aria-hidden", "true");
  const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
  for (const [name, value] of Object.entries({ x1: 0, x2: 24, y1: 4, y2: 4, "stroke-width": 2.5, class: `s${at}` })) {
    line.setAttribute(name, value);
  }
  if (DASHES[at].length) line.setAttribute("stroke-dasharray", DASHES[at].join(" "));
  svg.append(line);
  const value = document.createElement("b");
  item.append(svg, `${each.name}${each.right ? " →" : ""}`, value);
  return item;
};
