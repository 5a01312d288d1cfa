// A feature's windows: filter by stratum, order, and what went wrong where.

const STRATA = {
  top: "strongest",
  decile: "active, by decile",
  record: "records",
  uniform: "uniform, inactive",
  "hard-token": "hard: same token, inactive",
  "hard-text": "hard: similar text",
  "hard-neighbour": "hard: near feature fires",
};
const SHORT = {
  top: "strongest",
  record: "record",
  uniform: "uniform",
  "hard-token": "hard: token",
  "hard-text": "hard: text",
  "hard-neighbour": "hard: near",
};
const ORDERS = { stratum: "by stratum", worst: "worst predicted first", strongest: "strongest first" };
const view = { part: "s", stratum: "", order: "stratum", numbers: false };

function windowError(w) {
  if (!w.simulated) return null;
  return w.levels.reduce((sum, level, i) => sum + Math.abs(level - w.simulated[i]), 0) / w.levels.length;
}

function tally(windows) {
  const sum = { n: windows.length, error: 0, tokens: 0, active: 0, missed: 0, silent: 0, alarms: 0 };
  for (const w of windows) {
    if (!w.simulated) continue;
    w.levels.forEach((level, i) => {
      const guess = w.simulated[i];
      sum.tokens += 1;
      sum.error += Math.abs(level - guess);
      if (level > 0) {
        sum.active += 1;
        sum.missed += guess === 0;
      } else {
        sum.silent += 1;
        sum.alarms += guess > 0;
      }
    });
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
      <td>${sum.n}</td><td>${sum.tokens ? fixed(sum.error / sum.tokens) : "–"}</td><td>${ratio(sum.missed, sum.active)}</td><td>${ratio(sum.alarms, sum.silent)}</td></tr>`;
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
  const peak = (w) => Math.max(...w.activations);
  const byStratum = (a, b) =>
    place.indexOf(a.stratum) - place.indexOf(b.stratum) || b.decile - a.decile || peak(b) - peak(a);
  const orders = {
    stratum: byStratum,
    worst: (a, b) => (windowError(b) ?? -1) - (windowError(a) ?? -1) || byStratum(a, b),
    strongest: (a, b) => peak(b) - peak(a) || byStratum(a, b),
  };
  return [...windows].sort(orders[view.order]);
}

function windowHtml(w, place) {
  const error = windowError(w);
  const label = w.stratum === "decile" ? `decile ${w.decile}` : view.order === "stratum" ? "" : SHORT[w.stratum];
  const parts = [
    label && `<b>${label}</b>`,
    error === null
      ? w.part === "s"
        ? "<span>no answer</span>"
        : ""
      : `<span title="mean difference between true and simulated level">error ${fixed(error)}</span>`,
  ];
  const name = escapeHtml(w.document);
  return `<li class="window"><div class="about">${parts.filter(Boolean).join(" ")}<span class="doc" title="${name}"><bdi>${escapeHtml(w.document.split("/").pop() || w.document)}</bdi></span></div>${trackHtml(w, place)}</li>`;
}

// How levels look: the same tokens as below, with levels for text.
function keyHtml() {
  const levels = [0, 2, 4, 6, 8, 10];
  const isScored = view.part === "s";
  const sides = isScored
    ? '<b class="t">above</b> what the feature did, <b class="s">below</b> what the explanation predicted'
    : '<b class="t">above</b> what the feature did';
  const cells = levels.map((n) => `<span class="k t${n} s${n}"><bdi>${n}</bdi></span>`);
  return `<div class="key"><div class="track${isScored ? " both" : ""}">${cells.join("")}</div><span>levels 0 to 10: ${sides}</span></div>`;
}

// The part of the card below the facts; `windows` are the feature's, in stored order.
function windowsHtml(windows) {
  const parts = { s: windows.filter((w) => w.part === "s"), e: windows.filter((w) => w.part === "e") };
  if (!parts[view.part].length && parts[view.part === "s" ? "e" : "s"].length)
    view.part = view.part === "s" ? "e" : "s";
  const mine = parts[view.part];
  if (view.stratum && !mine.some((w) => w.stratum === view.stratum)) view.stratum = "";
  const shown = ordered(mine.filter((w) => !view.stratum || w.stratum === view.stratum));
  const tab = (part, label) =>
    `<button type="button" data-part="${part}" aria-pressed="${view.part === part}">${label} <small>${parts[part].length}</small></button>`;
  const orders = Object.entries(ORDERS).map(
    ([k, v]) => `<option value="${k}"${k === view.order ? " selected" : ""}>${v}</option>`,
  );
  let last = null;
  const items = shown.map((w) => {
    const title = view.order === "stratum" && w.stratum !== last ? `<li class="stratum">${STRATA[w.stratum]}</li>` : "";
    last = w.stratum;
    return title + windowHtml(w, windows.indexOf(w));
  });
  return `<div class="bar-row"><div class="segments">${tab("s", "Scored on")}${tab("e", "Explained from")}</div>
    <label>Order <select id="order">${orders.join("")}</select></label>
    <label class="check"><input type="checkbox" id="numbers"${view.numbers ? " checked" : ""}> levels as numbers</label></div>
    ${view.part === "s" ? strataHtml(mine) : ""}
    ${keyHtml()}
    <ol class="windows${view.numbers ? " numbers" : ""}">${items.join("") || '<li class="none">no windows</li>'}</ol>`;
}
