// Start: keys, and the address of the open feature.

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

addEventListener("theme", () => chart && drawScatter());
startTheme();
byId("help-open").hidden = false;
byId("against-label").hidden = false;
byId("against").addEventListener("change", drawScatter);
byId("help-open").addEventListener("click", toggleHelp);
buildTable();
listenToTable();
listenForTips(cardBox, (track) => card.detail.windows[Number(track.dataset.w)]);
listenToKeys();
refresh();
addEventListener("hashchange", followAddress);
followAddress();
requestAnimationFrame(() =>
  setTimeout(() =>
    drawScatter().catch((error) => (byId("scatter").textContent = `No chart in this browser: ${error}`)),
  ),
);
