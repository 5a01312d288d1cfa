// Score against density, by Vega-Lite; loaded after the page stands.

const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"];
let chart = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function loadCharts() {
  if (window.vegaEmbed) return;
  await whenParsed();
  const script = document.createElement("script");
  script.textContent = await inflate(byId("charts").textContent);
  document.head.append(script);
}

function scatterSpec() {
  const ids = DICTIONARIES.map((d) => d.id);
  const values = ROWS.filter((r) => r.density > 0).map((r) => ({
    id: r.id,
    dictionary: ids[r.dictionary],
    density: r.density,
    score: r.value,
    state: r.state === "scored" ? "" : `${r.state}: ${words(r.reason)}`,
    said: r.explanation ? r.explanation.slice(0, 120) : "no explanation",
  }));
  const ink = colour("--ink");
  const muted = colour("--muted");
  const line = colour("--line");
  const encoding = {
    x: { field: "density", type: "quantitative", scale: { type: "log" }, axis: { title: "density (share of tokens on which the feature is active)", format: "~e", tickCount: 6 } },
    color: { field: "dictionary", type: "nominal", scale: { domain: ids, range: ids.map((_, k) => colour(`--d${k % 6}`)) }, legend: { orient: "top", title: null } },
    shape: { field: "dictionary", type: "nominal", scale: { domain: ids, range: ids.map((_, k) => SHAPES[k % 6]) } },
    tooltip: [{ field: "id", title: "feature" }, { field: "score", format: ".2f" }, { field: "density", format: ".2~e" }, { field: "said", title: "explanation" }],
  };
  const point = { type: "point", filled: true, size: 34, opacity: 0.75, cursor: "pointer" };
  const share = { data: { values }, width: "container", background: null };
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    ...share,
    height: 300,
    transform: [{ filter: "datum.score !== null" }],
    params: [{ name: "brush", select: { type: "interval", encodings: ["x", "y"] } }],
    mark: point,
    encoding: { ...encoding, y: { field: "score", type: "quantitative", axis: { title: "Spearman" }, scale: { domain: [SPAN.low, 1] } } },
    config: {
      font: getComputedStyle(document.body).fontFamily,
      view: { stroke: line },
      axis: { labelColor: muted, titleColor: muted, gridColor: line, domainColor: line, tickColor: line, labelFontSize: 12, titleFontSize: 12, titleFontWeight: 500 },
      legend: { labelColor: ink, labelFontSize: 12 },
    },
  };
}

async function drawScatter() {
  await loadCharts();
  const result = await window.vegaEmbed("#scatter", scatterSpec(), { ast: true, actions: false, renderer: "canvas" });
  chart = result.view;
  chart.addEventListener("click", (event, item) => {
    if (item && item.datum && BY_ID.has(item.datum.id)) go(BY_ID.get(item.datum.id));
  });
  chart.addSignalListener("brush", (name, value) => {
    const inside = (range, v) => v >= Math.min(...range) && v <= Math.max(...range);
    const is = value && value.density && value.score;
    table.chosen = is ? (r) => r.value !== null && inside(value.density, r.density) && inside(value.score, r.value) : null;
    refresh();
  });
}
