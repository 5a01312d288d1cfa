// The card of one feature: what was said, how well it did, and the evidence.

const cardBox = byId("card");
const card = { row: null, detail: null };

function glyph(dictionary) {
  return `<span class="glyph g${dictionary % 6}" aria-hidden="true"></span>`;
}

function stateHtml(row) {
  return `<span class="state ${row.state}">${row.state}${row.reason ? `: ${escapeHtml(words(row.reason))}` : ""}</span>`;
}

const MEANS = {
  lookup: "mean level per token",
  bigram: "mean level per token pair",
  position: "place in the text alone",
  constant: "one level everywhere",
};

// Every statistic of the headline in one row.
function headlineHtml(row, score) {
  if (row.value === null) return "";
  const over = row.ceiling > 0 ? row.value / row.ceiling : null;
  const under = row.nullThreshold !== null && row.value <= row.nullThreshold;
  const lookup = row.lookup[0] === null ? words(score.controls.lookup[4]) : fixed(row.lookup[0]);
  const lift = row.lift[0] === null ? words(score.lift) : fixed(row.lift[0], 2, true);
  const ratio = score.ratio === null ? "" : `<small title="(score − look-up) / (1 − look-up)">ratio ${fixed(score.ratio)}</small>`;
  const first = score.first
    ? `<small>first ${score.first[0]}: ${fixed(score.first[1])}</small><small>${interval(score.first.slice(1))}</small>`
    : "";
  const saved = score.windows[1] ? `<small>${score.windows[1]} saved by stopping early</small>` : "";
  const cells = [
    ["Spearman", `<b class="big">${fixed(row.value)}</b> <small>${interval(row.score)}</small>`],
    ["Null threshold", `${fixed(row.nullThreshold)}${under ? ' <small class="warn">score is not above</small>' : ""}`],
    ["Ceiling", `${fixed(row.ceiling)} <small>score / ceiling ${fixed(over)}</small>`],
    ["Look-up", `${lookup} <small>${interval(row.lookup)}</small>`],
    ["Over look-up", `${lift} <small>${interval(row.lift)}</small> ${ratio}`],
    ["Windows", `${score.windows[0]} ${saved}${first}`],
  ];
  return `<dl class="headline">${cells.map(([k, v]) => `<div><dt>${k}</dt><dd>${v}</dd></div>`).join("")}</dl>`;
}

// The score with its controls on one axis; what is absent says why.
function scoreRows(row, score) {
  const shown = [row.score, score.unrefined ?? [], ...Object.values(score.controls), row.lift].map((v) => v.slice(0, 3));
  const least = Math.min(LOW, ...shown.flat().filter((v) => v !== null));
  const low = Math.max(-1, Math.floor(5 * least + 1e-9) / 5);
  const at = (value) => `x1="${percent(value, low)}" x2="${percent(value, low)}"`;
  const nul = row.nullThreshold;
  const nullLine = nul === null ? "" : `<line class="null" ${at(nul)} y1="0" y2="100%"/>`;
  const plot = (inner) =>
    `<svg class="mini" height="36" aria-hidden="true"><line class="zero" ${at(0)} y1="0" y2="100%"/>${nullLine}${inner}</svg>`;
  const line = (label, note, inner, value) =>
    `<tr><th scope="row">${label} <small>${note}</small></th><td>${plot(inner)}</td><td class="v">${value}</td></tr>`;
  const measured = (label, note, value, name, reason) => {
    if (value[0] !== null) {
      const said = name === "score" ? `<b>${fixed(value[0])}</b>` : fixed(value[0], 2, name === "lift");
      return line(label, note, intervalSvg(value, 18, name, low), `${said} <small>${interval(value)}</small>`);
    }
    const isZero = reason === "constant_prediction" || reason === "no_pattern";
    const text = `<small>${escapeHtml(words(reason))}${isZero ? ", counted as 0" : ""}</small>`;
    return line(label, note, isZero ? markSvg("counted", percent(0, low), 18) : "", text);
  };
  const rows = [measured("Explanation", "Spearman", row.score, "score", row.reason)];
  if (score.unrefined) rows.push(measured("Before revision", "Spearman", score.unrefined, "before", score.unrefined[4]));
  for (const [name, value] of Object.entries(score.controls)) {
    const from = score.shuffledFrom ? `text of ${featureLink(score.shuffledFrom)}` : "another feature's text";
    rows.push(measured(DATA.controls[name], name === "shuffled" ? from : MEANS[name], value, name, value[4]));
  }
  if (row.lift[0] !== null) rows.push(measured("Difference", "explanation less look-up", row.lift, "lift"));
  const label = nul === null ? "" : `<text class="nulltext" x="${percent(nul, low)}" y="27">null</text>`;
  return `<table class="score"><tbody>${rows.join("")}</tbody><tfoot aria-hidden="true"><tr><td></td><td>${axisSvg(label, low)}</td><td></td></tr></tfoot></table>`;
}

// What the explanation was before it was shown its errors, and what that brought.
function refinementHtml(row, detail) {
  if (!detail.refinement) return "";
  const [before, kept, first, second, calls] = detail.refinement;
  const unrefined = detail.score?.unrefined;
  const gain = kept && unrefined && unrefined[0] !== null && row.value !== null ? row.value - unrefined[0] : null;
  const said = (value) => (value === null ? "undefined" : fixed(value));
  const facts = [`on the select part ${said(first)} → ${said(second)}`];
  if (gain !== null) facts.push(`on the score part ${fixed(unrefined[0])} → ${fixed(row.value)} (${fixed(gain, 2, true)})`);
  if (calls) facts.push(`${thousands(calls)} requests`);
  const head = kept ? "Revised; before:" : "A revision was tried and not kept; the text stayed:";
  return `<p class="refined"><b>${head}</b> <bdi>${escapeHtml(before)}</bdi><small>Spearman ${facts.join("; ")}</small></p>`;
}

const TEXTS = ["random", "hard", "guided"];

function alarmsHtml(row, score) {
  const largest = Math.max(1, ...score.alarms);
  const items = TEXTS.map((kind, k) => {
    const share = score.alarms[k];
    const bar = share === null ? "" : `<rect width="${((100 * share) / largest).toFixed(1)}%" height="8"/>`;
    return `<div><dt>${kind} text</dt><dd><svg class="bar alarms" height="8" aria-hidden="true">${bar}</svg>${share === null ? "not measured" : fixed(share, 0)}</dd></div>`;
  });
  const tested = row.untested
    ? '<p class="warn">Specificity is not tested: fewer than 10 hard negatives were found and answered.</p>'
    : "";
  const [share, n] = score.tempted;
  const counted = n === null ? `${fixed(100 * share, 0)} %` : `${Math.round(share * n)} of ${n}`;
  const tempted = share === null ? "none was answered" : counted;
  return `<dl class="facts alarms">${items.join("")}<div><dt title="Hard negatives answered above 0">Tempted by hard negatives</dt><dd>${tempted}</dd></div></dl>${tested}`;
}

function moreHtml(score) {
  if (!score.more.length) return '<p class="none">none without a score</p>';
  const items = score.more.map(([name, value]) => {
    const [label, title] = DATA.statistics[name] ?? [escapeHtml(words(name)), ""];
    return `<div title="${title}"><dt>${label}<small>${title}</small></dt><dd>${fixed(value)}</dd></div>`;
  });
  return `<dl class="facts more">${items.join("")}</dl>`;
}

function scoreHtml(row, detail) {
  const { score } = detail;
  if (!score) return "";
  const details =
    row.value === null
      ? ""
      : `<div class="grid-3 scoring"><section><h3>Recall by decile <small>weakest first</small></h3>${recallSvg(score.recall)}</section>
      <section><h3>False positives <small>per 1,000 tokens</small></h3>${alarmsHtml(row, score)}</section>
      <section><h3>Further statistics</h3>${moreHtml(score)}</section></div>`;
  return `${headlineHtml(row, score)}${scoreRows(row, score)}${whyHtml(row)}${details}`;
}

const whyHtml = (row) => (row.why ? `<p class="whyline">${escapeHtml(row.why)}</p>` : "");

function featureLink(id, label = id) {
  return BY_ID.has(id) ? `<a class="link" href="#${encodeURI(id)}">${escapeHtml(label)}</a>` : escapeHtml(label);
}

function factsHtml(row, detail) {
  const facts = [
    ["Density", share(row.density)],
    ["Active tokens", thousands(row.active)],
    ["Largest activation", quantity(row.max)],
    ["Token entropy", detail.profile ? `${fixed(detail.profile[0], 1)} bits` : "–"],
    ["Distinct tokens", detail.profile ? thousands(detail.profile[2]) : "–"],
    ["Single token", detail.profile ? (detail.profile[1] ? "yes" : "no") : "–"],
    ["Decoder norm", quantity(detail.norm)],
    ["Encoder·decoder cosine", fixed(detail.cosine)],
  ];
  return `<dl class="facts">${facts.map(([k, v]) => `<div><dt>${k}</dt><dd>${v}</dd></div>`).join("")}</dl>`;
}

function nearHtml(row, detail) {
  if (!detail.near.length) return '<p class="none">not known</p>';
  const dictionary = DICTIONARIES[row.dictionary].id;
  const items = detail.near.slice(0, 10).map(([index, cosine]) => {
    const other = BY_ID.get(`${dictionary}/${index}`);
    const text =
      other && other.explanation ? `<span class="said"><bdi>${escapeHtml(other.explanation)}</bdi></span>` : "";
    return `<li>${featureLink(`${dictionary}/${index}`, String(index))} <span class="w">${fixed(cosine)}</span>${text}</li>`;
  });
  return `<ol class="near">${items.join("")}</ol>`;
}

function cardHtml(row, detail, place, total) {
  const d = DICTIONARIES[row.dictionary];
  const said = row.explanation
    ? `<p class="explanation${row.explanation.length > 240 ? " long" : ""}"><bdi>${escapeHtml(row.explanation)}</bdi></p><p class="author">by ${escapeHtml(row.author || "unknown")}</p>`
    : '<p class="explanation none">no explanation</p>';
  return `<div class="card-head"><h2>${glyph(row.dictionary)}${escapeHtml(d.id)} / ${row.index}</h2>${stateHtml(row)}
      <span class="place">${place >= 0 ? `${thousands(place + 1)} of ${thousands(total)}` : ""}</span>
      <button type="button" id="previous" title="Previous (k)" aria-label="Previous feature">↑</button><button type="button" id="next" title="Next (j)" aria-label="Next feature">↓</button>
      <button type="button" id="close" title="Close (Esc)" aria-label="Close">✕</button></div>
    <div class="card-body" tabindex="-1">${said}${refinementHtml(row, detail)}${detail.score ? scoreHtml(row, detail) : whyHtml(row)}
      <div class="grid-2"><section><h3>Activations <small>tokens per bin, log scale; shade is the level</small></h3>${histogramSvg(detail, row.max)}</section><section><h3>Facts</h3>${factsHtml(row, detail)}</section></div>
      <div class="grid-3"><section><h3>Raises output tokens</h3>${weightsHtml(detail.top.slice(0, 10), "up")}</section>
      <section><h3>Lowers output tokens</h3>${weightsHtml(detail.bottom.slice(0, 10), "down")}</section>
      <section><h3>Nearest features <small>decoder cosine</small></h3>${nearHtml(row, detail)}</section></div>
      <section><h3>Windows of text</h3><div id="windows">${windowsHtml(detail.windows)}</div></section></div>`;
}

async function openCard(row) {
  card.row = row;
  let detail;
  try {
    detail = await detailOf(row);
  } catch (error) {
    detail = null;
    cardBox.innerHTML = `<div class="card-head"><h2>${escapeHtml(row.id)}</h2><span class="place"></span><button type="button" id="close" aria-label="Close">✕</button></div>
      <div class="card-body" tabindex="-1"><p>This browser cannot unpack the evidence in this file: ${escapeHtml(error)}. Chrome from 97, Firefox from 113 and Safari from 16.4 can.</p></div>`;
  }
  if (card.row !== row) return;
  card.detail = detail;
  if (detail) cardBox.innerHTML = cardHtml(row, detail, placeOf(row), shownRows().length);
  cardBox.hidden = false;
  document.body.classList.add("has-card");
  const body = cardBox.querySelector(".card-body");
  body.scrollTop = 0;
  if (document.activeElement !== byId("rows")) body.focus({ preventScroll: true });
  markCurrent(row);
}

function closeCard() {
  card.row = card.detail = null;
  const focused = cardBox.contains(document.activeElement);
  cardBox.hidden = true;
  document.body.classList.remove("has-card");
  hideTip();
  if (focused) byId("rows").focus({ preventScroll: true });
  if (location.hash) history.replaceState(null, "", location.pathname + location.search);
}

function redrawWindows() {
  byId("windows").innerHTML = windowsHtml(card.detail.windows);
}

cardBox.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.id === "close") closeCard();
  else if (button.id === "previous") step(-1);
  else if (button.id === "next") step(1);
  else if (button.dataset.part) {
    view.part = button.dataset.part;
    view.stratum = "";
    redrawWindows();
  } else if (button.dataset.stratum !== undefined) {
    view.stratum = button.dataset.stratum;
    redrawWindows();
  }
});
cardBox.addEventListener("change", (event) => {
  if (event.target.id === "order") view.order = event.target.value;
  else if (event.target.id === "numbers") view.numbers = event.target.checked;
  else return;
  redrawWindows();
});
