// A comparison's own script: pairs of features opened to their windows, values under the pointer.

const chunks = new Map();
const KEPT = new WeakMap();

// The windows of both sides of a pair.
async function sidesOf(pair) {
  const number = Math.floor(pair / DATA.perChunk);
  if (!chunks.has(number)) chunks.set(number, readText(`chunk-${number}`).then((text) => unpackWindows(JSON.parse(text))));
  const at = 2 * (pair % DATA.perChunk);
  return Promise.all((await chunks.get(number)).slice(at, at + 2).map(withTokens));
}

const PARTS = { e: "Explained from", s: "Predicted worst" };

function heatHtml(windows) {
  const part = ([name, title]) => {
    const mine = windows.filter((w) => w.part === name);
    if (!mine.length) return "";
    const items = mine.map((w) => windowHtml(w, windows.indexOf(w), labelOf(w)));
    return `<li class="stratum">${title}</li>${items.join("")}`;
  };
  return `<ol class="windows">${Object.entries(PARTS).map(part).join("") || '<li class="none">no windows</li>'}</ol>`;
}

async function openPair(details) {
  if (KEPT.has(details)) return;
  KEPT.set(details, null);
  const sides = await sidesOf(Number(details.dataset.pair));
  KEPT.set(details, sides);
  details.querySelectorAll(".side").forEach((side, k) => {
    side.querySelector(".heat").innerHTML = heatHtml(sides[k]);
  });
}

function windowOf(track) {
  const side = track.closest(".side");
  return KEPT.get(side.closest(".pair"))[Number(side.dataset.side)][Number(track.dataset.w)];
}

async function startPairs() {
  const all = [...document.querySelectorAll(".pair")];
  all.forEach((details) => details.addEventListener("toggle", () => details.open && openPair(details)));
  await Promise.all(all.filter((details) => details.open).map(openPair));
  const shown = all.flatMap((details) => KEPT.get(details) ?? []).flat();
  if (shown.length) byId("key").innerHTML = keyHtml(shown, true);
  listenForTips(byId("differ"), windowOf);
}

function startTabs() {
  const tabs = byId("tabs");
  if (!tabs) return;
  const panes = [...document.querySelectorAll(".contrast-pairs")];
  const choose = (place) => {
    panes.forEach((pane, k) => (pane.hidden = k !== place));
    tabs.querySelectorAll("button").forEach((tab, k) => tab.setAttribute("aria-pressed", String(k === place)));
  };
  tabs.hidden = false;
  byId("differ").classList.add("tabbed");
  tabs.addEventListener("click", (event) => {
    const tab = event.target.closest("[data-tab]");
    if (tab) choose(Number(tab.dataset.tab));
  });
  choose(0);
}

const features = new Map();

// An arm's features: number, density, score and look-up each.
function featuresOf(place) {
  if (!features.has(place))
    features.set(
      place,
      readText(`points-${place}`).then((text) => {
        const [index, density, value, lookup] = JSON.parse(text);
        return index.map((n, k) => ({ name: `${DATA.arms[place]}/${n}`, density: density[k], value: value[k], lookup: lookup[k] }));
      }),
    );
  return features.get(place);
}

const REACH = 12;

// The feature nearest to a point of the plot, in pixels; none beyond REACH.
async function nearest(plot, x, y) {
  const box = plot.querySelector(".field").getBoundingClientRect();
  const { low, high, bottom, top } = DATA.axes;
  const all = (await Promise.all(plot.dataset.arms.split(" ").map((place) => featuresOf(Number(place))))).flat();
  let best = null;
  for (const feature of all) {
    const across = box.left + (box.width * (Math.log10(feature.density) - low)) / (high - low);
    const up = box.bottom - (box.height * (feature.value - bottom)) / (top - bottom);
    const far = Math.hypot(across - x, up - y);
    if (far < (best?.far ?? REACH)) best = { feature, far, at: new DOMRect(across - 3, up - 3, 6, 6) };
  }
  return best;
}

function startPlots() {
  for (const plot of document.querySelectorAll("[data-arms]")) {
    let turn = 0;
    const tell = async (event) => {
      const mine = ++turn;
      const found = await nearest(plot, event.clientX, event.clientY);
      if (mine !== turn) return;
      if (!found) return hideTip();
      const { name, density, value, lookup } = found.feature;
      tellBeside(found.at, `<b><bdi>${escapeHtml(name)}</bdi></b>`, [
        ["score", fixed(value)],
        ["look-up", fixed(lookup)],
        ["density", share(density)],
      ]);
    };
    plot.addEventListener("pointermove", tell);
    plot.addEventListener("pointerdown", tell);
    plot.addEventListener("pointerleave", () => {
      turn++;
      hideTip();
    });
  }
}

startTheme();
startTabs();
startPlots();
startPairs();
addEventListener("keydown", (event) => {
  if (event.key === "t" && !event.ctrlKey && !event.metaKey && !event.altKey) nextTheme();
  if (event.key === "Escape") hideTip();
});
