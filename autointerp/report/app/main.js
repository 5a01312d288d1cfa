// Start: theme, keys, tips, and the address of the open feature.

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme-name").textContent = name;
  remember("theme", name);
  if (chart) drawScatter();
}

const tip = byId("tip");
function hideTip() {
  tip.hidden = true;
}

function showTip(cell) {
  if (!cell.dataset.i) return;
  const w = card.detail.windows[Number(cell.closest(".track").dataset.w)];
  const i = Number(cell.dataset.i);
  const lines = [["true level", w.levels[i]]];
  if (w.activations.has(i)) lines.unshift(["activation", quantity(w.activations.get(i))]);
  const said = w.simulated?.get(i);
  if (said !== undefined) lines.push(["simulated", said], ["error", fixed(said - w.levels[i], 0, true)]);
  tip.innerHTML = `<code><bdi>${tokenHtml(w.tokens[i])}</bdi></code><dl>${lines.map(([k, v]) => `<dt>${k}</dt><dd>${v}</dd>`).join("")}</dl>`;
  tip.hidden = false;
  const at = cell.getBoundingClientRect();
  const box = tip.getBoundingClientRect();
  tip.style.left = `${clamp(at.left + at.width / 2 - box.width / 2, 6, innerWidth - box.width - 6)}px`;
  tip.style.top = `${at.top - box.height - 6 > 0 ? at.top - box.height - 6 : at.bottom + 6}px`;
}

// A mouse shows a token's values while it is over it; a finger shows them until it taps elsewhere.
function listenForTips() {
  const cellOf = (event) => event.target.closest(".k");
  cardBox.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse") return;
    if (cellOf(event)) showTip(cellOf(event));
    else hideTip();
  });
  cardBox.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip());
  cardBox.addEventListener("click", (event) => (cellOf(event) ? showTip(cellOf(event)) : hideTip()));
  cardBox.addEventListener("scroll", hideTip, true);
}

const KEYS = [
  ["j →", "next feature; ↓ in the table"],
  ["k ←", "previous feature; ↑ in the table"],
  ["/", "search"],
  ["w", "worst predicted first, and back"],
  ["n", "levels as numbers"],
  ["t", "theme"],
  ["Esc", "close"],
  ["?", "these keys"],
];

function toggleHelp() {
  const help = byId("help");
  if (help.open) help.close();
  else {
    help.innerHTML = `<h2>Keys</h2><dl>${KEYS.map(([k, v]) => `<dt><kbd>${k}</kbd></dt><dd>${v}</dd>`).join("")}</dl><form method="dialog"><button>Close</button></form>`;
    help.showModal();
  }
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]);

const ACTIONS = {
  j: () => step(1),
  k: () => step(-1),
  ArrowDown: () => step(1), // in the table; inside the card they scroll
  ArrowUp: () => step(-1),
  ArrowRight: () => step(1),
  ArrowLeft: () => step(-1),
  "/": () => byId("search").focus(),
  t: nextTheme,
  "?": toggleHelp,
  w: () => {
    if (!card.detail) return;
    view.order = view.order === "worst" ? "stratum" : "worst";
    redrawWindows();
  },
  n: () => {
    if (!card.detail) return;
    view.numbers = !view.numbers;
    redrawWindows();
  },
};

function listenToKeys() {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const typing = event.target.matches("input:not([type=checkbox]), select, textarea");
    if (event.key === "Escape") {
      if (typing) event.target.blur();
      else if (card.row && !byId("help").open) closeCard();
      return;
    }
    const sideways = event.key === "ArrowLeft" || event.key === "ArrowRight";
    const upright = event.key === "ArrowUp" || event.key === "ArrowDown";
    if (typing || byId("help").open || (sideways && !card.row) || (upright && event.target.id !== "rows")) return;
    const action = ACTIONS[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function followAddress() {
  const row = BY_ID.get(decodeURI(location.hash.slice(1)));
  if (row) openCard(row);
  else if (card.row) closeCard();
}

setTheme(THEMES.includes(remember("theme")) ? remember("theme") : "auto");
byId("theme").hidden = byId("help-open").hidden = false;
byId("against-label").hidden = false;
byId("against").addEventListener("change", drawScatter);
byId("theme").addEventListener("click", nextTheme);
byId("help-open").addEventListener("click", toggleHelp);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => chart && drawScatter());
buildTable();
listenToTable();
listenForTips();
listenToKeys();
refresh();
addEventListener("hashchange", followAddress);
followAddress();
requestAnimationFrame(() =>
  setTimeout(() =>
    drawScatter().catch((error) => (byId("scatter").textContent = `No chart in this browser: ${error}`)),
  ),
);
