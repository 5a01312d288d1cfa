// The card of one feature: what was said, how well it did, and the evidence.

const cardBox = byId("card");
const card = { row: null, detail: null };

function glyph(dictionary) {
  return `<span class="glyph g${dictionary % 6}" aria-hidden="true"></span>`;
}

function stateHtml(row) {
  return `<span class="state ${row.state}">${row.state}${row.reason ? `: ${escapeHtml(words(row.reason))}` : ""}</span>`;
}

// The score with its controls on one axis; absent statistics have no line.
function scoreRows(row, detail) {
  const at = (value) => `x1="${percent(value)}" x2="${percent(value)}"`;
  const nul = row.nullThreshold;
  const plot = (inner, height) =>
    `<svg class="mini" height="${height}" aria-hidden="true"><line class="zero" ${at(0)} y1="0" y2="100%"/>${nul === null ? "" : `<line class="null" ${at(nul)} y1="0" y2="100%"/>`}${inner}</svg>`;
  const line = (label, note, inner, value) =>
    `<tr><th scope="row">${label}<small>${note}</small></th><td>${plot(inner, 40)}</td><td class="v">${value}</td></tr>`;
  const rows = [];
  const said = row.value === null ? stateHtml(row) : `<b>${fixed(row.value)}</b> <small>${interval(row.score)}</small>`;
  const under = nul !== null && row.value !== null && row.value <= nul;
  const note =
    nul === null
      ? "Spearman"
      : `${under ? '<b class="warn">not above</b> the' : "Spearman;"} null threshold ${fixed(nul)}`;
  rows.push(line("Explanation", note, row.value === null ? "" : intervalSvg(row.score, 20, SPAN), said));
  if (row.lookup !== null)
    rows.push(line("Look-up baseline", "mean level per token", diamond(percent(row.lookup), 20), fixed(row.lookup)));
  if (row.shuffled !== null) {
    const from = detail.shuffledFrom ? `text of ${featureLink(detail.shuffledFrom)}` : "another feature's text";
    rows.push(line("Shuffled explanation", from, cross(percent(row.shuffled), 20), fixed(row.shuffled)));
  }
  if (row.lift[0] !== null) {
    const value = `<b>${fixed(row.lift[0], 2, true)}</b> <small>${interval(row.lift)}</small>`;
    rows.push(line("Difference", "explanation less look-up", intervalSvg(row.lift, 20, SPAN, "lift"), value));
  }
  const label = nul === null ? "" : `<text class="nulltext" x="${percent(nul)}" y="27">null</text>`;
  return `<table class="score"><tbody>${rows.join("")}</tbody><tfoot aria-hidden="true"><tr><td></td><td>${axisSvg(label)}</td><td></td></tr></tfoot></table>`;
}

function featureLink(id, label = id) {
  return BY_ID.has(id) ? `<a class="link" href="#${encodeURI(id)}">${escapeHtml(label)}</a>` : escapeHtml(label);
}

function factsHtml(row, detail) {
  const facts = [
    ["Density", share(row.density)],
    ["Active tokens", thousands(row.active)],
    ["Largest activation", quantity(row.max)],
    ["Pearson", fixed(detail.more[0])],
    ["Spearman, mean per window", fixed(detail.more[1])],
    ["Spearman of the true levels", fixed(row.ceiling)],
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
  const why = row.why ? `<p class="whyline">${escapeHtml(row.why)}</p>` : "";
  return `<div class="card-head"><h2>${glyph(row.dictionary)}${escapeHtml(d.id)} / ${row.index}</h2>${stateHtml(row)}
      <span class="place">${place >= 0 ? `${thousands(place + 1)} of ${thousands(total)}` : ""}</span>
      <button type="button" id="previous" title="Previous (k)" aria-label="Previous feature">↑</button><button type="button" id="next" title="Next (j)" aria-label="Next feature">↓</button>
      <button type="button" id="close" title="Close (Esc)" aria-label="Close">✕</button></div>
    <div class="card-body" tabindex="-1">${said}${row.value !== null || row.lookup !== null || row.shuffled !== null ? scoreRows(row, detail) : ""}${why}
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
      <div class="card-body" tabindex="-1"><p>This browser cannot unpack the evidence in this file: ${escapeHtml(error)}. Chrome from 80, Firefox from 113 and Safari from 16.4 can.</p></div>`;
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
