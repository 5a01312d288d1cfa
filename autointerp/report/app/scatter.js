// Each feature's score against its density or its look-up baseline, by Vega-Lite; loaded once the page stands.

const SHAPES = ["circle", "square", "triangle-up", "diamond", "cross", "triangle-down"];
const AGAINST = {
  density: { title: "density: share of tokens on which the feature is active", format: "~e" },
  lookup: {
    title: "Spearman of the look-up baseline; above the diagonal the explanation is better",
    scale: { domain: [LOW, 1] },
    format: ".1f",
  },
};
// Features without a score stand in a band of their own below the axis.
const BANDS = Object.fromEntries(
  ["undefined", "failed", "skipped"]
    .filter((state) => ROWS.some((r) => r.state === state && r.density > 0))
    .map((state, k) => [state, LOW - 0.1 * (k + 1)]),
);
let chart = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

async function loadCharts() {
  if (window.vegaEmbed) return;
  await whenParsed();
  const script = document.createElement("script");
  script.textContent = await inflate(byId("charts").textContent);
  document.head.append(script);
}

const xOf = (row, x) => (x === "lookup" ? row.lookup[0] : row.density);

function points() {
  const shown = new Set(shownRows());
  const x = byId("against").value;
  const wanted = (r) => (x === "density" ? r.density > 0 : r.lookup[0] !== null) && (r.value !== null || r.state in BANDS);
  return ROWS.filter(wanted).map((r) => ({
    id: r.id,
    dictionary: DICTIONARIES[r.dictionary].id,
    x: xOf(r, x),
    y: r.value ?? BANDS[r.state],
    value: r.value === null ? `${r.state}: ${words(r.reason)}` : `${fixed(r.value)} ${interval(r.score)}`,
    null: fixed(r.nullThreshold),
    lookup: `${fixed(r.lookup[0])} ${interval(r.lookup)}`,
    density: share(r.density),
    said: r.explanation ? r.explanation.slice(0, 160) : "no explanation",
    on: shown.has(r),
    current: table.current === r,
  }));
}

function pointLayer(ids, values, x) {
  return {
    data: { name: "points", values },
    params: [
      {
        name: "brush",
        select: {
          type: "interval",
          encodings: ["x", "y"],
          mark: { fill: colour("--accent"), fillOpacity: 0.08, stroke: colour("--accent") },
        },
      },
    ],
    mark: { type: "point", filled: true, cursor: "pointer", strokeWidth: 2 },
    encoding: {
      x,
      color: {
        field: "dictionary",
        type: "nominal",
        scale: { domain: ids, range: ids.map((_, k) => colour(`--d${k % 6}`)) },
        legend: { orient: "top", title: null, symbolSize: 80, offset: 4 },
      },
      shape: { field: "dictionary", type: "nominal", scale: { domain: ids, range: ids.map((_, k) => SHAPES[k % 6]) } },
      opacity: { condition: { test: "datum.on", value: values.length > 600 ? 0.6 : 0.8 }, value: 0.12 },
      size: { condition: { test: "datum.current", value: 200 }, value: values.length > 600 ? 22 : 36 },
      stroke: { condition: { test: "datum.current", value: colour("--ink") }, value: null },
      order: { field: "current" },
      tooltip: [
        { field: "id", title: "feature" },
        { field: "value", title: "score" },
        { field: "null", title: "null threshold" },
        { field: "lookup", title: "look-up" },
        { field: "density" },
        { field: "said", title: "explanation" },
      ],
    },
  };
}

function scatterSpec() {
  const against = AGAINST[byId("against").value];
  const states = Object.keys(BANDS);
  const isDensity = byId("against").value === "density";
  const low = isDensity && states.length ? Math.min(...states.map((s) => BANDS[s])) - 0.06 : LOW;
  const y = {
    field: "y",
    type: "quantitative",
    scale: { domain: [low, 1], nice: false },
    axis: { title: "Spearman of the explanation", values: ticks(LOW), format: ".1f" },
  };
  const values = points();
  const x = {
    field: "x",
    type: "quantitative",
    scale: against.scale || {
      type: "log",
      nice: false,
      domain: [0.85, 1.18].map((f, k) => f * Math[k ? "max" : "min"](...values.map((p) => p.x))),
    },
    axis: { title: against.title, format: against.format, tickCount: 6, grid: false },
  };
  const layers = [{ data: { values: [{ y: 0 }] }, mark: { type: "rule", color: colour("--strong") }, encoding: {} }];
  if (isDensity)
    layers.push({
      data: { values: states.map((state) => ({ y: BANDS[state], label: state })) },
      mark: { type: "text", align: "right", color: colour("--muted"), fontSize: 12 },
      encoding: { x: { value: -8 }, text: { field: "label" } },
    });
  else
    layers.push({
      data: { values: [LOW, 1].map((v) => ({ x: v, y: v })) },
      mark: { type: "line", color: colour("--strong"), strokeDash: [4, 3] },
      encoding: { x },
    });
  layers.push(
    pointLayer(
      DICTIONARIES.map((d) => d.id),
      values,
      x,
    ),
  );
  return {
    $schema: "https://vega.github.io/schema/vega-lite/v6.json",
    width: "container",
    height: innerWidth > 1000 ? 400 : 300,
    background: null,
    autosize: { type: "fit-x", contains: "padding" },
    layer: layers.map((layer) => ({ ...layer, encoding: { ...layer.encoding, y: { ...layer.encoding.y, ...y } } })),
    config: chartConfig(),
  };
}

function chartConfig() {
  const [ink, muted, line] = [colour("--ink"), colour("--muted"), colour("--line")];
  const small = { labelFontSize: 12, titleFontSize: 12 };
  return {
    font: getComputedStyle(document.body).fontFamily,
    view: { stroke: null },
    axis: {
      ...small,
      labelColor: muted,
      titleColor: muted,
      titleFontWeight: 400,
      gridColor: line,
      domainColor: line,
      tickColor: line,
      titlePadding: 8,
    },
    legend: { ...small, labelColor: ink },
  };
}

// Points of features that the table does not show fade; the open feature's is ringed.
function showInScatter() {
  if (!chart) return;
  chart.data("points", points());
  chart.runAsync();
}

let drawn = 0;

async function drawScatter() {
  const turn = ++drawn;
  if (!points().length) {
    byId("scatter").textContent = "No feature has a score to show here.";
    return;
  }
  await loadCharts();
  if (turn !== drawn) return;
  chart?.finalize();
  chart = null;
  if (table.chosen) {
    table.chosen = null;
    refresh();
  }
  const options = { ast: true, actions: false, renderer: "canvas", tooltip: { theme: "page" } };
  const result = await window.vegaEmbed("#scatter", scatterSpec(), options);
  if (turn !== drawn) return;
  chart = result.view;
  byId("scatter").chart = result;
  chart.addEventListener("click", (event, item) => {
    if (item && item.datum && BY_ID.has(item.datum.id)) go(BY_ID.get(item.datum.id));
  });
  let waiting = 0;
  chart.addSignalListener("brush", (name, value) => {
    clearTimeout(waiting);
    waiting = setTimeout(() => chooseBy(value), 60);
  });
}

function clearBrush() {
  if (!chart) return;
  chart.data("brush_store", []);
  chart.runAsync();
}

// The brush limits the table to the features under it.
function chooseBy(brush) {
  const inside = ([a, b], v) => v !== null && v >= Math.min(a, b) && v <= Math.max(a, b);
  const x = byId("against").value;
  const within = (r) => inside(brush.x, xOf(r, x)) && inside(brush.y, r.value ?? BANDS[r.state] ?? null);
  table.chosen = brush && brush.x && brush.y ? within : null;
  refresh();
}
