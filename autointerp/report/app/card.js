// The card of one feature: what was said, how well it did, and the evidence.

const cardBox = byId("card");
const card = { row: null, detail: null };

function glyph(dictionary) {
  return `<span class="glyph g${dictionary % 6}" aria-hidden="true"></span>`;
}

function stateHtml(row) {
  return `<span class="state ${row.state}">${row.state}${row.reason ? `: ${escapeHtml(words(row.reason))}` : ""}</span>`;
}

function scoreRows(row, detail) {
  const span = { low: SPAN.low, high: 1 };
  const plot = (inner) => {
    const zero = `<line class="zero" x1="${percent(0)}" x2="${percent(0)}" y1="0" y2="22"/>`;
    const nul = row.nullThreshold === null ? "" : `<line class="null" x1="${percent(row.nullThreshold)}" x2="${percent(row.nullThreshold)}" y1="0" y2="22"/>`;
    return `<svg class="mini" height="22" aria-hidden="true">${zero}${nul}${inner}</svg>`;
  };
  const line = (label, inner, value, note) => `<tr><th scope="row">${label}</th><td class="p">${plot(inner)}</td><td class="v">${value}</td><td class="note">${note}</td></tr>`;
  const rows = [];
  rows.push(line("Explanation", intervalSvg(row.score, 11, span), `<b>${fixed(row.value)}</b> ${interval(row.score)}`, row.nullThreshold === null ? "" : `null threshold ${fixed(row.nullThreshold)}`));
  if (row.lookup !== null) rows.push(line("Look-up baseline", diamond(percent(row.lookup), 11), fixed(row.lookup), ""));
  if (row.lift[0] !== null) rows.push(line("Difference", intervalSvg(row.lift, 11, span, "lift"), `${fixed(row.lift[0], 2, true)} ${interval(row.lift)}`, "explanation less look-up"));
  if (row.shuffled !== null) rows.push(line("Shuffled", cross(percent(row.shuffled), 11), fixed(row.shuffled), detail.shuffledFrom ? `text of ${featureLink(detail.shuffledFrom)}` : ""));
  return `<table class="score">${rows.join("")}</table>`;
}

function featureLink(id, label = id) {
  return BY_ID.has(id) ? `<a href="#${encodeURI(id)}">${escapeHtml(label)}</a>` : escapeHtml(label);
}

function factsHtml(row, detail) {
  const facts = [
    ["Density", share(row.density)],
    ["Active tokens", thousands(row.active)],
    ["Largest activation", quantity(row.max)],
    ["Pearson", fixed(detail.more[0])],
    ["Spearman, mean per window", fixed(detail.more[1])],
    ["Ceiling", fixed(row.ceiling)],
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
    const text = other && other.explanation ? `<span class="said"><bdi>${escapeHtml(other.explanation)}</bdi></span>` : "";
    return `<li>${featureLink(`${dictionary}/${index}`, String(index))} <span class="w">${fixed(cosine)}</span>${text}</li>`;
  });
  return `<ol class="near">${items.join("")}</ol>`;
}

function cardHtml(row, detail, place, total) {
  const d = DICTIONARIES[row.dictionary];
  const said = row.explanation
    ? `<p class="explanation"><bdi>${escapeHtml(row.explanation)}</bdi></p><p class="author">by ${escapeHtml(row.author || "unknown")}</p>`
    : '<p class="explanation none">no explanation</p>';
  const why = row.why ? `<p class="whyline">${escapeHtml(row.why)}</p>` : "";
  return `<div class="card-head"><h2>${glyph(row.dictionary)}${escapeHtml(d.id)} / ${row.index}</h2>${stateHtml(row)}
      <span class="place">${place >= 0 ? `${place + 1} of ${total}` : ""}</span>
      <button type="button" id="previous" title="Previous (k)" aria-label="Previous feature">↑</button><button type="button" id="next" title="Next (j)" aria-label="Next feature">↓</button>
      <button type="button" id="close" title="Close (Esc)" aria-label="Close">✕</button></div>
    <div class="card-body">${said}${row.state === "scored" ? scoreRows(row, detail) : ""}${why}
      <div class="grid-2"><section><h3>Activations</h3>${histogramSvg(detail, row.max)}</section><section><h3>Facts</h3>${factsHtml(row, detail)}</section></div>
      <div class="grid-3"><section><h3>Raises output tokens</h3>${weightsHtml(detail.top.slice(0, 10), "up")}</section>
      <section><h3>Lowers output tokens</h3>${weightsHtml(detail.bottom.slice(0, 10), "down")}</section>
      <section><h3>Nearest features <small>decoder cosine</small></h3>${nearHtml(row, detail)}</section></div>
      <section><h3>Windows</h3><div id="windows">${windowsHtml(detail.windows)}</div></section></div>`;
}

async function openCard(row) {
  card.row = row;
  const detail = await detailOf(row);
  if (card.row !== row) return;
  card.detail = detail;
  cardBox.innerHTML = cardHtml(row, detail, placeOf(row), shownRows().length);
  cardBox.hidden = false;
  document.body.classList.add("has-card");
  cardBox.querySelector(".card-body").scrollTop = 0;
  markCurrent(row);
}

function closeCard() {
  card.row = null;
  cardBox.hidden = true;
  document.body.classList.remove("has-card");
  hideTip();
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
