// A feature's windows: filter by stratum, order, and what went wrong where.

const STRATA = {
  top: "strongest",
  decile: "active, by decile",
  record: "records",
  uniform: "uniform, inactive",
  "hard-token": "hard: same token, inactive",
  "hard-text": "hard: similar text",
  "hard-neighbour": "hard: near feature fires",
  guided: "guided by the explanation's words, inactive",
};
const PARTS = { s: "Scored on", g: "Guided", e: "Explained from" };
const GUIDED_NOTE =
  '<p class="note">Silent text that the explanation\'s own words point at, looked for after it was written: a test of its claims, never part of the score.</p>';
const ORDERS = { stratum: "by stratum", worst: "worst predicted first", strongest: "strongest first" };
const view = { part: "s", stratum: "", order: "stratum", numbers: false };

function tally(windows) {
  const sum = { n: windows.length, error: 0, tokens: 0, hit: 0, missed: 0, alarm: 0, silent: 0 };
  for (const [level, guess] of windows.flatMap(pairs)) {
    sum.tokens += 1;
    sum.error += Math.abs(level - guess);
    sum[verdict(level, guess)] += 1;
  }
  return sum;
}

const ratio = (n, of) => (of ? `${thousands(n)} of ${thousands(of)}` : "–");

function strataHtml(windows) {
  const names = Object.keys(STRATA).filter((name) => windows.some((w) => w.stratum === name));
  const line = (name, label, mine) => {
    const sum = tally(mine);
    const pressed = view.stratum === name;
    return `<tr class="${pressed ? "on" : ""}"><th scope="row"><button type="button" data-stratum="${name}" aria-pressed="${pressed}">${label}</button></th>
      <td>${sum.n}</td><td>${sum.tokens ? fixed(sum.error / sum.tokens) : "–"}</td><td>${ratio(sum.missed, sum.hit + sum.missed)}</td><td>${ratio(sum.alarm, sum.alarm + sum.silent)}</td></tr>`;
  };
  const rows = names.map((name) =>
    line(
      name,
      STRATA[name],
      windows.filter((w) => w.stratum === name),
    ),
  );
  return `<table class="strata"><thead><tr><th scope="col">Windows</th><th scope="col">n</th><th scope="col">mean |error|</th><th scope="col">missed</th><th scope="col">false alarms</th></tr></thead>
    <tbody>${line("", "all", windows)}${rows.join("")}</tbody></table>`;
}

function ordered(windows) {
  const place = Object.keys(STRATA);
  const peak = (w) => Math.max(...w.activations.values());
  const byStratum = (a, b) =>
    place.indexOf(a.stratum) - place.indexOf(b.stratum) || b.decile - a.decile || peak(b) - peak(a);
  const orders = {
    stratum: byStratum,
    worst: (a, b) => (windowError(b) ?? -1) - (windowError(a) ?? -1) || byStratum(a, b),
    strongest: (a, b) => peak(b) - peak(a) || byStratum(a, b),
  };
  return [...windows].sort(orders[view.order]);
}

// The part of the card below the facts; `windows` are the feature's, in stored order.
function windowsHtml(windows) {
  const parts = Object.fromEntries(Object.keys(PARTS).map((p) => [p, windows.filter((w) => w.part === p)]));
  if (!parts[view.part].length) view.part = Object.keys(PARTS).find((p) => parts[p].length) || "s";
  const mine = parts[view.part];
  if (view.stratum && !mine.some((w) => w.stratum === view.stratum)) view.stratum = "";
  const shown = ordered(mine.filter((w) => !view.stratum || w.stratum === view.stratum));
  const tab = ([part, label]) =>
    `<button type="button" data-part="${part}" aria-pressed="${view.part === part}">${label} <small>${parts[part].length}</small></button>`;
  const orders = Object.entries(ORDERS).map(
    ([k, v]) => `<option value="${k}"${k === view.order ? " selected" : ""}>${v}</option>`,
  );
  const isGrouped = view.order === "stratum";
  let last = null;
  const items = shown.map((w) => {
    const title = isGrouped && w.stratum !== last ? `<li class="stratum">${STRATA[w.stratum]}</li>` : "";
    last = w.stratum;
    return title + windowHtml(w, windows.indexOf(w), isGrouped && w.stratum !== "decile" ? "" : labelOf(w));
  });
  return `<div class="bar-row"><div class="segments">${Object.entries(PARTS)
    .filter(([part]) => part !== "g" || parts.g.length)
    .map(tab)
    .join("")}</div>
    <label>Order <select id="order">${orders.join("")}</select></label>
    <label class="check"><input type="checkbox" id="numbers"${view.numbers ? " checked" : ""}> levels as numbers</label></div>
    ${view.part === "s" ? strataHtml(mine) : ""}${view.part === "g" ? GUIDED_NOTE : ""}
    ${keyHtml(mine, view.part !== "e")}
    <ol class="windows${view.numbers ? " numbers" : ""}">${items.join("") || '<li class="none">no windows</li>'}</ol>`;
}
