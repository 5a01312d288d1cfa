// Small figures as SVG text: score marks on an axis, a histogram, weights as bars.

const SPAN = (() => {
  const values = ROWS.flatMap((r) => [r.value, r.score[1], r.lookup]).filter((v) => v !== null);
  return { low: Math.max(-1, Math.floor(5 * Math.min(-0.2, ...values)) / 5), high: 1 };
})();

const across = (value, span = SPAN) => (100 * (clamp(value, span.low, span.high) - span.low)) / (span.high - span.low);
const percent = (value, span) => `${across(value, span).toFixed(2)}%`;

const diamond = (x, y) => `<svg x="${x}" y="${y}" overflow="visible"><path class="mark-lookup" d="M0 -4.5L4.5 0L0 4.5L-4.5 0Z"/></svg>`;
const cross = (x, y) => `<svg x="${x}" y="${y}" overflow="visible"><path class="mark-shuffled" d="M-3.5 -3.5L3.5 3.5M3.5 -3.5L-3.5 3.5"/></svg>`;

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

// Activation histogram, bars coloured by the level their values get; heights are logarithmic.
function histogramSvg(detail, max) {
  const counts = detail.histogram;
  if (!counts.length || !max) return '<p class="none">never active</p>';
  const top = Math.log10(Math.max(...counts) + 1);
  const edges = detail.deciles;
  const width = 100 / counts.length;
  let svg = "";
  for (let power = 1; power <= top; power++) {
    const y = 96 - (88 * Math.log10(10 ** power + 1)) / top;
    svg += `<line class="grid" x1="0" x2="100%" y1="${y.toFixed(1)}" y2="${y.toFixed(1)}"/>`;
    svg += `<text x="100%" y="${(y - 2).toFixed(1)}" text-anchor="end">${thousands(10 ** power)}</text>`;
  }
  counts.forEach((count, k) => {
    if (!count) return;
    const height = (88 * Math.log10(count + 1)) / top;
    const middle = ((k + 0.5) * max) / counts.length;
    const level = edges.length ? 1 + edges.filter((edge) => edge < middle).length : 5;
    svg += `<rect class="f${level}" x="${(k * width).toFixed(2)}%" width="${(width * 0.88).toFixed(2)}%" y="${(96 - height).toFixed(1)}" height="${height.toFixed(1)}"><title>${thousands(count)} tokens, ${quantity((k * max) / counts.length)} to ${quantity(((k + 1) * max) / counts.length)}</title></rect>`;
  });
  svg += `<line class="zero" x1="0" x2="100%" y1="96.5" y2="96.5"/>`;
  svg += `<text x="0" y="110">0</text><text x="100%" y="110" text-anchor="end">${quantity(max)}</text>`;
  return `<svg class="histogram" height="114" role="img" aria-label="Histogram of activations, 0 to ${quantity(max)}">${svg}</svg>`;
}

// Tokens with weights as bars, the largest first.
function weightsHtml(pairs, name) {
  if (!pairs.length) return '<p class="none">not known</p>';
  const largest = Math.max(...pairs.map(([, weight]) => Math.abs(weight)));
  const items = pairs.map(([token, weight]) => {
    const width = ((100 * Math.abs(weight)) / largest).toFixed(0);
    return `<li><span class="tok"><bdi>${tokenHtml(token)}</bdi></span><span class="w">${fixed(weight, 2, true)}</span><svg class="bar ${name}" height="6" aria-hidden="true"><rect width="${width}%" height="6"/></svg></li>`;
  });
  return `<ol class="weights">${items.join("")}</ol>`;
}
