// Small figures as SVG text: score marks on an axis, a histogram, weights as bars.

// All axes end at 1; the page's begins at LOW, a card's where its own values need it.
const LOW = DATA.low;

const percent = (value, low = LOW) => `${((100 * (clamp(value, low, 1) - low)) / (1 - low)).toFixed(2)}%`;

// A control's sign, the same wherever it stands.
const markSvg = (name, x, y) =>
  `<svg x="${x}" y="${y}" overflow="visible"><path class="mark-${name}" d="${DATA.shapes[name] ?? DATA.shapes.score}"/></svg>`;

function intervalSvg([value, low, high], y, name = "score", from = LOW) {
  let svg = "";
  if (low !== null && high !== null)
    svg += `<line class="span-${name}" x1="${percent(low, from)}" x2="${percent(high, from)}" y1="${y}" y2="${y}"/>`;
  return svg + markSvg(name, percent(value, from), y);
}

// One row's score in the table: interval, null threshold and look-up on the page's common axis.
function scoreSvg(row) {
  const y = 11;
  let svg = `<line class="zero" x1="${percent(0)}" x2="${percent(0)}" y1="1" y2="21"/>`;
  if (row.nullThreshold !== null)
    svg += `<line class="null" x1="${percent(row.nullThreshold)}" x2="${percent(row.nullThreshold)}" y1="3" y2="19"/>`;
  if (row.lookup[0] !== null) svg += markSvg("lookup", percent(row.lookup[0]), y);
  return `<svg class="mini" height="22" aria-hidden="true">${svg}${intervalSvg(row.score, y)}</svg>`;
}

const ticks = (low) => Array.from({ length: 11 }, (_, k) => k / 5 - 1).filter((v) => v >= low - 1e-9);

// Below a plot: a line with ticks and labels.
function axisSvg(extra, low) {
  const tick = (v) =>
    `<line class="zero" x1="${percent(v, low)}" x2="${percent(v, low)}" y1="0" y2="4"/><text x="${percent(v, low)}" y="15">${fixed(v, 1)}</text>`;
  return `<svg class="ticks" height="30"><line class="zero" x1="0" x2="100%" y1="0.5" y2="0.5"/>${ticks(low).map(tick).join("")}${extra}</svg>`;
}

// Above a column of small plots: its ends and zero.
function headSvg() {
  const tick = (v) =>
    `<line class="zero" x1="${percent(v)}" x2="${percent(v)}" y1="14" y2="18"/><text x="${percent(v)}" y="11">${fixed(v, v % 1 ? 1 : 0)}</text>`;
  return `<svg height="18" aria-hidden="true">${[LOW, 0, 0.5, 1].map(tick).join("")}</svg>`;
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

// Share of activations that were predicted above 0, by decile of strength.
function recallSvg(recall) {
  const [base, full] = [84, 70];
  let svg = "";
  for (const share of [0.5, 1]) {
    const y = base - full * share;
    svg += `<line class="grid" x1="0" x2="100%" y1="${y}" y2="${y}"/><text x="100%" dx="6" y="${y + 4}">${100 * share} %</text>`;
  }
  recall.forEach((share, k) => {
    const x = 10 * k;
    const label = `decile ${k + 1}: ${share === null ? "no window" : `${Math.round(100 * share)} % predicted above 0`}`;
    const height = share === null ? 0 : Math.max(1, full * share);
    svg += `<g><title>${label}</title><rect class="hit" x="${x + 0.8}%" width="8.4%" y="${base - height}" height="${height}"/><rect class="frame" x="${x + 0.8}%" width="8.4%" y="${base - full}" height="${full}"/></g>`;
    svg += `<text x="${x + 5}%" y="${base + 14}" text-anchor="middle">${share === null ? "–" : k + 1}</text>`;
  });
  svg += `<line class="zero" x1="0" x2="100%" y1="${base + 0.5}" y2="${base + 0.5}"/>`;
  const said = recall.map((share) => (share === null ? "none" : `${Math.round(100 * share)} %`)).join(", ");
  return `<svg class="histogram recall" height="${base + 18}" role="img" aria-label="Recall by decile, weakest first: ${said}">${svg}</svg>`;
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
