// Small helpers: escaping, numbers as text, elements.

const MINUS = "\u2212";

const escapeHtml = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

function fixed(value, digits = 2, sign = false) {
  if (value === null || value === undefined) return "–";
  const rounded = Number(value.toFixed(digits));
  const text = Math.abs(rounded).toFixed(digits);
  return (rounded < 0 ? MINUS : sign ? "+" : "") + text;
}

function interval([, low, high], digits = 2) {
  return low === null || high === null ? "" : `[${fixed(low, digits)}, ${fixed(high, digits)}]`;
}

function share(value) {
  if (value === null) return "–";
  if (value === 0) return "0";
  if (value >= 0.1) return `${(100 * value).toFixed(0)} %`;
  if (value >= 0.0001) return `${Number((100 * value).toPrecision(2))} %`;
  const [mantissa, exponent] = value.toExponential(1).split("e");
  return `${mantissa}e${MINUS}${Math.abs(Number(exponent))}`;
}

function quantity(value) {
  if (value === null || value === undefined) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000 || size < 0.001) return String(Number(value.toPrecision(3))).replace("-", MINUS);
  return String(Number(value.toPrecision(3))).replace("-", MINUS);
}

const thousands = (n) => n.toLocaleString("en-US");
const words = (name) => (name || "").replaceAll("_", " ");
const byId = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

function remember(key, value) {
  try {
    if (value === undefined) return localStorage.getItem(`autointerp-${key}`);
    localStorage.setItem(`autointerp-${key}`, value);
  } catch {
    // A file opened from disk may have no storage; the choice then lasts as long as the page.
  }
  return null;
}
