// One window of a feature: its tokens, what was predicted of them, and what became of that.

const SHORT = {
  top: "strongest",
  record: "record",
  uniform: "uniform",
  "hard-token": "hard: token",
  "hard-text": "hard: text",
  "hard-neighbour": "hard: near",
  guided: "guided",
};
const labelOf = (w) => (w.stratum === "decile" ? `decile ${w.decile}` : SHORT[w.stratum]);
// What became of a target: its sign, and the word that says it without colour.
const VERDICTS = {
  hit: ["✓", "hit"],
  missed: ["✗", "missed"],
  alarm: ["▲", "false alarm"],
  silent: ["·", "rightly silent"],
};

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

function saidHtml(w) {
  if (!w.simulated) return w.part === "e" ? "" : "<span>no answer</span>";
  if (w.target === null)
    return `<span title="mean difference between true and simulated level">error ${fixed(windowError(w))}</span>`;
  const [[level, guess]] = pairs(w);
  const kind = verdict(level, guess);
  const [sign, word] = VERDICTS[kind];
  return `<span class="verdict ${kind}"><i aria-hidden="true">${sign}</i>${word}</span><span class="levels">level ${level}, said ${guess}</span>`;
}

// A window with what became of it; `label` says why it was kept.
function windowHtml(w, place, label) {
  const name = escapeHtml(w.document);
  return `<li class="window"><div class="about">${label ? `<b>${label}</b> ` : ""}${saidHtml(w)}<span class="doc" title="${name}"><bdi>${escapeHtml(w.document.split("/").pop() || w.document)}</bdi></span></div>${trackHtml(w, place)}</li>`;
}

// How levels look: the same tokens as below, with levels for text.
function keyHtml(windows, isAsked) {
  const hasTargets = windows.some((w) => w.target !== null);
  const levels = [0, 2, 4, 6, 8, 10];
  const above = '<b class="t">above</b> what the feature did';
  const below = ', <b class="s">below</b> what the explanation predicted';
  const cells = levels.map((n) => `<span class="k t${n} s${n}"><bdi>${n}</bdi></span>`);
  const target = hasTargets && isAsked ? " of the one framed token that was asked for" : "";
  const signs = Object.values(VERDICTS).map(([sign, word]) => `<span><i aria-hidden="true">${sign}</i> ${word}</span>`);
  return `<div class="key"><div class="track${isAsked ? " both" : ""}">${cells.join("")}</div><span>levels 0 to 10: ${above}${isAsked ? below + target : ""}</span>${target ? signs.join("") : ""}</div>`;
}
