// Small figures as SVG text: score marks on an axis, a histogram, weights as bars.

const SPAN = (() => {
  const values = ROWS.flatMap((r) => [r.value, r.lookup, r.shuffled]).filter((v) => v !== null);
  return { low: Math.max(-1, Math.floor(5 * Math.min(-0.2, ...values)) / 5), high: 1 };
})();

const across = (value, span = SPAN) => (100 * (clamp(value, span.low, span.high) - span.low)) / (span.high - span.low);
const percent = (value, span) => `${across(value, span).toFixed(2)}%`;

const diamond = (x, y) =>
  `<svg x="${x}" y="${y}" overflow="visible"><path class="mark-lookup" d="M0 -4.5L4.5 0L0 4.5L-4.5 0Z"/></svg>`;
const cross = (x, y) =>
  `<svg x="${x}" y="${y}" overflow="visible"><path class="mark-shuffled" d="M-3.5 -3.5L3.5 3.5M3.5 -3.5L-3.5 3.5"/></svg>`;

function intervalSvg([value, low, high], y, span, name = "score") {
  let svg = "";
  if (low !== null && high !== null)
    svg += `<line class="mark-interval ${name}" x1="${percent(low, span)}" x2="${percent(high, span)}" y1="${y}" y2="${y}"/>`;
  return `${svg}<circle class="mark-score ${name}" cx="${percent(value, span)}" cy="${y}" r="4"/>`;
}

// One row's score in the table: interval, null threshold and look-up on the page's common axis.
function scoreSvg(row) {
  const y = 11;
  let svg = `<line class="zero" x1="${percent(0)}" x2="${percent(0)}" y1="1" y2="21"/>`;
  if (row.nullThreshold !== null)
    svg += `<line class="null" x1="${percent(row.nullThreshold)}" x2="${percent(row.nullThreshold)}" y1="3" y2="19"/>`;
  if (row.lookup !== null) svg += diamond(percent(row.lookup), y);
  return `<svg class="mini" height="22" aria-hidden="true">${svg}${intervalSvg(row.score, y, SPAN)}</svg>`;
}

const TICKS = Array.from({ length: 11 }, (_, k) => k / 5 - 1).filter((v) => v >= SPAN.low - 1e-9);

// Below a plot: a line with ticks and labels.
function axisSvg(extra) {
  const tick = (v) =>
    `<line class="zero" x1="${percent(v)}" x2="${percent(v)}" y1="0" y2="4"/><text x="${percent(v)}" y="15">${fixed(v, 1)}</text>`;
  return `<svg class="ticks" height="30"><line class="zero" x1="0" x2="100%" y1="0.5" y2="0.5"/>${TICKS.map(tick).join("")}${extra}</svg>`;
}

// Above a column of small plots: its ends and zero.
function headSvg() {
  const tick = (v) =>
    `<line class="zero" x1="${percent(v)}" x2="${percent(v)}" y1="14" y2="18"/><text x="${percent(v)}" y="11">${fixed(v, v % 1 ? 1 : 0)}</text>`;
  return `<svg height="18" aria-hidden="true">${[SPAN.low, 0, 0.5, 1].map(tick).join("")}</svg>`;
}

// Activation histogram, bars shaded by the level their values get; heights are logarithmic.
function histogramSvg(detail, max) {
  const counts = detail.histogram;
  if (!counts.length || !max) return '<p class="none">never active</p>';
  const [base, full] = [132, 112];
  const top = Math.log10(Math.max(...counts) + 1);
  const high = (count) => (full * Math.log10(count + 1)) / top;
  const width = 100 / counts.length;
  let svg = "";
  for (let power = 0; 10 ** power <= Math.max(...counts); power++) {
    const y = (base - high(10 ** power)).toFixed(1);
    svg += `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/>`;
    svg += `<text x="100%" dx="6" y="${Number(y) + 4}">${power < 3 ? 10 ** power : `${10 ** (power - 3)}k`}</text>`;
  }
  counts.forEach((count, k) => {
    if (!count) return;
    const middle = ((k + 0.5) * max) / counts.length;
    const level = detail.deciles.length ? 1 + detail.deciles.filter((edge) => edge < middle).length : 5;
    const label = `${thousands(count)} tokens from ${quantity((k * max) / counts.length)} to ${quantity(((k + 1) * max) / counts.length)}, level ${level}`;
    svg += `<rect class="f${level}" x="${(k * width).toFixed(2)}%" width="${(width * 0.86).toFixed(2)}%" y="${(base - high(count)).toFixed(1)}" height="${high(count).toFixed(1)}"><title>${label}</title></rect>`;
  });
  svg += `<line class="zero" x1="0" x2="100%" y1="${base + 0.5}" y2="${base + 0.5}"/>`;
  for (const [x, anchor] of [
    [0, "start"],
    [0.5, "middle"],
    [1, "end"],
  ])
    svg += `<text x="${100 * x}%" y="${base + 14}" text-anchor="${anchor}">${quantity(x * max)}</text>`;
  return `<svg class="histogram" height="${base + 18}" role="img" aria-label="Histogram of activations, 0 to ${quantity(max)}">${svg}</svg>`;
}

// Tokens with weights as bars, the largest first.
function weightsHtml(pairs, name) {
  if (!pairs.length) return '<p class="none">not known</p>';
  const largest = Math.max(...pairs.map(([, weight]) => Math.abs(weight)));
  const items = pairs.map(([token, weight]) => {
    const width = ((100 * Math.abs(weight)) / largest).toFixed(0);
    return `<li><span class="tok mono"><bdi>${tokenHtml(token)}</bdi></span><span class="w">${fixed(weight, 2, true)}</span><svg class="bar ${name}" height="6" aria-hidden="true"><rect width="${width}%" height="6"/></svg></li>`;
  });
  return `<ol class="weights">${items.join("")}</ol>`;
}
