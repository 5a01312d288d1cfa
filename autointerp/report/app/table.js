// The table of features: search, filters, sort, and only the rows in sight.

const explorer = byId("explorer");
const isAbove = (r) => r.value !== null && r.nullThreshold !== null && r.value > r.nullThreshold;
const isBelow = (r) => r.value !== null && r.nullThreshold !== null && r.value <= r.nullThreshold;
const SHOWS = {
  all: ["all features", () => true],
  scored: ["scored", (r) => r.state === "scored"],
  undefined: ["undefined", (r) => r.state === "undefined"],
  failed: ["failed", (r) => r.state === "failed"],
  skipped: ["skipped", (r) => r.state === "skipped"],
  above: ["above the null threshold", isAbove],
  below: ["not above the null threshold", isBelow],
  beats: ["above look-up", (r) => r.lift[1] !== null && r.lift[1] > 0],
  ties: ["interval spans look-up", (r) => r.lift[1] !== null && r.lift[1] <= 0 && r.lift[2] >= 0],
  loses: ["below look-up", (r) => r.lift[2] !== null && r.lift[2] < 0],
  single: ["single token", (r) => r.singleToken === true],
  several: ["several tokens", (r) => r.singleToken === false],
  untested: ["specificity not tested", (r) => r.untested],
  ...Object.fromEntries(
    Object.entries(DATA.whys).map(([kind, label]) => [`why-${kind}`, [label, (r) => r.whyKind === kind]]),
  ),
};
const GROUPS = {
  "": ["all", "scored", "undefined", "failed", "skipped"],
  "beside its controls": ["above", "below", "beats", "ties", "loses"],
  "kind of feature": ["single", "several", "untested"],
  "why the score is low": Object.keys(DATA.whys).map((kind) => `why-${kind}`),
};
const COLUMNS = {
  feature: ["Feature", (r) => r.position, 1],
  score: ["Score", (r) => r.value, -1],
  lift: ["Over look-up", (r) => r.lift[0], -1],
  why: ["Why low, flags", (r) => whyText(r) || null, 1],
  density: ["Density", (r) => r.density, -1],
  explanation: ["Explanation", (r) => r.explanation && r.explanation.toLowerCase(), 1],
};
// One press each for the questions asked most.
const PRESETS = {
  best: ["Best", { show: "scored", sort: "score", direction: -1 }],
  worst: ["Worst", { show: "scored", sort: "score", direction: 1 }],
  lift: ["Most over look-up", { show: "scored", sort: "lift", direction: -1 }],
  undefined: ["Undefined", { show: "undefined", sort: "feature", direction: 1 }],
  failed: ["Failed", { show: "failed", sort: "feature", direction: 1 }],
};
const whyText = (row) => (row.value === null || !row.whyKind ? "" : DATA.whys[row.whyKind]);
const table = {
  query: "",
  dictionary: "",
  show: "all",
  reason: "",
  chosen: null,
  sort: "score",
  direction: -1,
  rows: [],
  current: null,
};

const shownRows = () => table.rows;
const placeOf = (row) => table.rows.indexOf(row);

function buildTable() {
  const option = (key) =>
    `<option value="${key}">${SHOWS[key][0]} (${thousands(ROWS.filter(SHOWS[key][1]).length)})</option>`;
  const shows = Object.entries(GROUPS).map(([label, keys]) =>
    label ? `<optgroup label="${label}">${keys.map(option).join("")}</optgroup>` : keys.map(option).join(""),
  );
  const dictionaries = DICTIONARIES.map((d, k) => `<option value="${k}">${escapeHtml(d.id)}</option>`);
  const heads = Object.entries(COLUMNS).map(
    ([key, [label]]) =>
      `<div role="columnheader" class="c-${key}">${key === "score" ? headSvg() : ""}<button type="button" data-sort="${key}">${label}</button></div>`,
  );
  const presets = Object.entries(PRESETS).map(
    ([key, [label]]) => `<button type="button" data-preset="${key}">${label}</button>`,
  );
  explorer.innerHTML = `<div class="filters"><div class="segments" role="group" aria-label="Show first">${presets.join("")}</div><label class="search"><span class="sr">Search</span><input id="search" type="search" placeholder="Search explanations, ids, reasons" autocomplete="off" spellcheck="false"></label>
    <label><span class="sr">Dictionary</span><select id="dictionary"><option value="">all dictionaries</option>${dictionaries.join("")}</select></label>
    <label><span class="sr">Show</span><select id="show">${shows.join("")}</select></label>
    <button type="button" id="chosen" hidden></button><output id="count"></output></div>
    <ul class="legend"><li><svg width="26" height="12"><line class="span-score" x1="1" x2="25" y1="6" y2="6"/>${markSvg("score", 13, 6)}</svg> score, 95 % interval over windows</li>
      <li><svg width="12" height="12">${markSvg("lookup", 6, 6)}</svg> look-up baseline; the difference is bold where its interval leaves out 0</li>
      <li><svg width="6" height="14"><line class="null" x1="3" x2="3" y1="0" y2="14"/></svg> null threshold</li></ul>
    <div role="table" aria-label="Features" class="grid-table"><div role="row" class="head">${heads.join("")}</div><div id="rows" role="rowgroup" tabindex="0"><div id="spacer"></div></div></div>`;
  explorer.hidden = false;
}

function refresh() {
  const query = table.query.trim().toLowerCase();
  const matches = (r) =>
    !query || [r.id, r.explanation, words(r.reason), r.why, r.author].some((t) => t && t.toLowerCase().includes(query));
  const test = SHOWS[table.show][1];
  const [, key] = COLUMNS[table.sort];
  const order = { scored: 0, undefined: 1, failed: 2, skipped: 3 };
  table.rows = ROWS.filter(
    (r) =>
      test(r) &&
      (table.dictionary === "" || r.dictionary === Number(table.dictionary)) &&
      (!table.reason || r.reason === table.reason) &&
      (!table.chosen || table.chosen(r)) &&
      matches(r),
  ).sort((a, b) => {
    const x = key(a);
    const y = key(b);
    if (x === null || y === null)
      return (x === null) - (y === null) || order[a.state] - order[b.state] || a.position - b.position;
    return (x < y ? -1 : x > y ? 1 : 0) * table.direction || a.position - b.position;
  });
  byId("count").textContent =
    table.rows.length === ROWS.length
      ? `${thousands(ROWS.length)} features`
      : `${thousands(table.rows.length)} of ${thousands(ROWS.length)} features`;
  const chip = byId("chosen");
  chip.hidden = !table.reason && !table.chosen;
  chip.textContent = `${table.reason ? words(table.reason) : "marked in the chart"} ✕`;
  for (const head of explorer.querySelectorAll("[data-sort]")) {
    const on = head.dataset.sort === table.sort;
    head.parentElement.setAttribute("aria-sort", on ? (table.direction > 0 ? "ascending" : "descending") : "none");
  }
  for (const button of explorer.querySelectorAll("[data-preset]")) {
    const wanted = Object.entries(PRESETS[button.dataset.preset][1]);
    button.setAttribute("aria-pressed", String(wanted.every(([name, value]) => table[name] === value)));
  }
  byId("rows").scrollTop = 0;
  drawRows();
  showInScatter();
}

function rowHtml(row, place, height) {
  const score =
    row.state === "scored"
      ? `${scoreSvg(row)}<span class="num"><b>${fixed(row.value)}</b> <small>${interval(row.score)}</small><small class="beside">null ${fixed(row.nullThreshold)}, look-up ${fixed(row.lookup[0])}</small></span>`
      : stateHtml(row);
  const said = row.explanation
    ? `<bdi>${escapeHtml(row.explanation)}</bdi>`
    : `<span class="none">${escapeHtml(row.why || "no explanation")}</span>`;
  const clear = row.lift[1] !== null && (row.lift[1] > 0 || row.lift[2] < 0);
  const lift =
    row.lift[0] === null
      ? "–"
      : `<span class="${clear ? "clear" : ""}">${fixed(row.lift[0], 2, true)}</span><small>${interval(row.lift)}</small>`;
  const flags = [
    row.singleToken && '<span class="flag" title="its strongest places all hold the same token">single token</span>',
    row.untested && '<span class="flag warn" title="fewer than 10 hard negatives">specificity not tested</span>',
  ];
  const why = [whyText(row) && `<span class="why">${whyText(row)}</span>`, ...flags].filter(Boolean).join(" ");
  const current = table.current === row;
  return `<div role="row" class="row${current ? " current" : ""}" style="top:${place * height}px" data-id="${escapeHtml(row.id)}" aria-rowindex="${place + 2}"${current ? ' aria-current="true"' : ""}>
    <div role="cell" class="c-feature"><a href="#${encodeURI(row.id)}" tabindex="-1">${glyph(row.dictionary)}${escapeHtml(row.id)}</a></div>
    <div role="cell" class="c-score">${score}</div><div role="cell" class="c-lift">${lift}</div><div role="cell" class="c-why">${why}</div><div role="cell" class="c-density">${share(row.density)}</div>
    <div role="cell" class="c-explanation">${said}</div></div>`;
}

const rowHeight = () => parseFloat(getComputedStyle(explorer).getPropertyValue("--row")) || 44;

function drawRows() {
  const box = byId("rows");
  const height = rowHeight();
  const spacer = byId("spacer");
  spacer.style.height = `${table.rows.length * height}px`; // first, for the box is as high as what it holds
  const first = Math.max(0, Math.floor(box.scrollTop / height) - 6);
  const last = Math.min(table.rows.length, Math.ceil((box.scrollTop + box.clientHeight) / height) + 6);
  const html = table.rows.slice(first, last).map((row, k) => rowHtml(row, first + k, height));
  spacer.innerHTML = html.join("") || '<p class="none">No feature matches.</p>';
}

function markCurrent(row) {
  table.current = row;
  showInScatter();
  const place = placeOf(row);
  const box = byId("rows");
  const height = rowHeight();
  if (place >= 0) {
    const top = place * height;
    if (top < box.scrollTop) box.scrollTop = top;
    else if (top + height > box.scrollTop + box.clientHeight) box.scrollTop = top + height - box.clientHeight;
  }
  drawRows();
}

function go(row) {
  if (location.hash === `#${encodeURI(row.id)}`) openCard(row);
  else location.hash = encodeURI(row.id);
}

function step(by) {
  if (!table.rows.length) return;
  const place = table.current ? placeOf(table.current) : -1;
  go(table.rows[place < 0 ? 0 : clamp(place + by, 0, table.rows.length - 1)]);
}

function listenToTable() {
  byId("search").addEventListener("input", (e) => ((table.query = e.target.value), refresh()));
  byId("dictionary").addEventListener("change", (e) => ((table.dictionary = e.target.value), refresh()));
  byId("show").addEventListener("change", (e) => ((table.show = e.target.value), refresh()));
  byId("chosen").addEventListener("click", () => {
    table.reason = "";
    table.chosen = null;
    clearBrush();
    refresh();
  });
  explorer.addEventListener("click", (event) => {
    const preset = event.target.closest("[data-preset]");
    if (preset) {
      Object.assign(table, PRESETS[preset.dataset.preset][1]);
      byId("show").value = table.show;
      refresh();
    }
    const head = event.target.closest("[data-sort]");
    if (head) {
      const name = head.dataset.sort;
      table.direction = table.sort === name ? -table.direction : COLUMNS[name][2];
      table.sort = name;
      refresh();
    }
    const row = event.target.closest(".row");
    if (row && !event.metaKey && !event.ctrlKey) {
      event.preventDefault();
      go(BY_ID.get(row.dataset.id));
    }
  });
  byId("rows").addEventListener("scroll", () => requestAnimationFrame(drawRows), { passive: true });
  addEventListener("resize", () => requestAnimationFrame(drawRows));
  for (const button of document.querySelectorAll("[data-reason], [data-why]"))
    button.addEventListener("click", () => {
      table.reason = button.dataset.reason ?? "";
      table.dictionary = button.dataset.dictionary;
      byId("dictionary").value = table.dictionary;
      table.show = byId("show").value = button.dataset.why ? `why-${button.dataset.why}` : "all";
      refresh();
      byId("features").scrollIntoView();
    });
}
