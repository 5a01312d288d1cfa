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
const SHORT = {
  top: "strongest",
  record: "record",
  uniform: "uniform",
  "hard-token": "hard: token",
  "hard-text": "hard: text",
  "hard-neighbour": "hard: near",
  guided: "guided",
};
const PARTS = { s: "Scored on", g: "Guided", e: "Explained from" };
// What became of a target: its sign, and the word that says it without colour.
const VERDICTS = {
  hit: ["✓", "hit"],
  missed: ["✗", "missed"],
  alarm: ["▲", "false alarm"],
  silent: ["·", "rightly silent"],
};
const GUIDED_NOTE =
  '<p class="note">Silent text that the explanation\'s own words point at, looked for after it was written: a test of its claims, never part of the score.</p>';
const ORDERS = { stratum: "by stratum", worst: "worst predicted first", strongest: "strongest first" };
const view = { part: "s", stratum: "", order: "stratum", numbers: false };

// True and predicted level of each token that was asked for and answered.
const pairs = (w) => (w.simulated ? w.scored.map((i) => [w.levels[i], w.simulated.get(i)]) : []);

function windowError(w) {
  const found = pairs(w);
  return found.length ? found.reduce((sum, [level, guess]) => sum + Math.abs(level - guess), 0) / found.length : null;
}

function verdict(level, guess) {
  if (level > 0) return guess > 0 ? "hit" : "missed";
  return guess > 0 ? "alarm" : "silent";
}

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

function saidHtml(w) {
  if (!w.simulated) return w.part === "e" ? "" : "<span>no answer</span>";
  if (w.target === null)
    return `<span title="mean difference between true and simulated level">error ${fixed(windowError(w))}</span>`;
  const [[level, guess]] = pairs(w);
  const kind = verdict(level, guess);
  const [sign, word] = VERDICTS[kind];
  return `<span class="verdict ${kind}"><i aria-hidden="true">${sign}</i>${word}</span><span class="levels">level ${level}, said ${guess}</span>`;
}

function windowHtml(w, place) {
  const label = w.stratum === "decile" ? `decile ${w.decile}` : view.order === "stratum" ? "" : SHORT[w.stratum];
  const name = escapeHtml(w.document);
  return `<li class="window"><div class="about">${label ? `<b>${label}</b> ` : ""}${saidHtml(w)}<span class="doc" title="${name}"><bdi>${escapeHtml(w.document.split("/").pop() || w.document)}</bdi></span></div>${trackHtml(w, place)}</li>`;
}

// How levels look: the same tokens as below, with levels for text.
function keyHtml(windows) {
  const isAsked = view.part !== "e";
  const hasTargets = windows.some((w) => w.target !== null);
  const levels = [0, 2, 4, 6, 8, 10];
  const above = '<b class="t">above</b> what the feature did';
  const below = ', <b class="s">below</b> what the explanation predicted';
  const cells = levels.map((n) => `<span class="k t${n} s${n}"><bdi>${n}</bdi></span>`);
  const target = hasTargets && isAsked ? " of the one framed token that was asked for" : "";
  const signs = Object.values(VERDICTS).map(([sign, word]) => `<span><i aria-hidden="true">${sign}</i> ${word}</span>`);
  return `<div class="key"><div class="track${isAsked ? " both" : ""}">${cells.join("")}</div><span>levels 0 to 10: ${above}${isAsked ? below + target : ""}</span>${target ? signs.join("") : ""}</div>`;
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
  let last = null;
  const items = shown.map((w) => {
    const title = view.order === "stratum" && w.stratum !== last ? `<li class="stratum">${STRATA[w.stratum]}</li>` : "";
    last = w.stratum;
    return title + windowHtml(w, windows.indexOf(w));
  });
  return `<div class="bar-row"><div class="segments">${Object.entries(PARTS)
    .filter(([part]) => part !== "g" || parts.g.length)
    .map(tab)
    .join("")}</div>
    <label>Order <select id="order">${orders.join("")}</select></label>
    <label class="check"><input type="checkbox" id="numbers"${view.numbers ? " checked" : ""}> levels as numbers</label></div>
    ${view.part === "s" ? strataHtml(mine) : ""}${view.part === "g" ? GUIDED_NOTE : ""}
    ${keyHtml(mine)}
    <ol class="windows${view.numbers ? " numbers" : ""}">${items.join("") || '<li class="none">no windows</li>'}</ol>`;
}
