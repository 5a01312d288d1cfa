// The report's data: rows at once, details of a feature on demand. The inverse of pack.py.

const DATA = JSON.parse(byId("data").textContent);
const DICTIONARIES = DATA.dictionaries;
const ROWS = DATA.rows.map((r, position) => ({
  position,
  dictionary: r[0],
  index: r[1],
  id: `${DICTIONARIES[r[0]].id}/${r[1]}`,
  state: r[2],
  reason: r[3],
  why: r[4],
  explanation: r[5],
  author: r[6],
  noPattern: r[7] === 1,
  density: r[8],
  active: r[9],
  max: r[10],
  score: r[11].slice(0, 3),
  value: r[11][0],
  nullThreshold: r[11][3],
  ceiling: r[11][4],
  lookup: r[12],
  lift: r[13],
  shuffled: r[14],
}));
const BY_ID = new Map(ROWS.map((row) => [row.id, row]));
const chunks = new Map();

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

function whenParsed() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
}

async function readChunk(number) {
  if (!byId(`chunk-${number}`)) await whenParsed();
  return unpack(JSON.parse(await inflate(byId(`chunk-${number}`).textContent)));
}

// Facts and windows of one feature.
function detailOf(row) {
  const number = Math.floor(row.position / DATA.perChunk);
  if (!chunks.has(number)) chunks.set(number, readChunk(number));
  return chunks.get(number).then((features) => features[row.position % DATA.perChunk]);
}

function unpack(chunk) {
  const tokens = chunk.tokens.split("\n");
  const at = { token: 0, simulated: 0, activation: 0, silent: 0 };
  const cut = (text, from, n) => Array.from(text.slice(from, from + n), (digit) => parseInt(digit, 16));
  const window = ([part, stratum, decile, place, n, isSimulated, isMasked]) => {
    const levels = cut(chunk.levels, at.token, n);
    const active = isMasked ? cut(chunk.silent[at.silent++], 0, n) : levels;
    const made = {
      part,
      stratum,
      decile,
      document: chunk.documents[place],
      tokens: tokens.slice(at.token, at.token + n),
      levels,
      activations: active.map((a) => (a ? chunk.activations[at.activation++] : 0)),
      simulated: isSimulated ? cut(chunk.simulated, at.simulated, n) : null,
    };
    at.token += n;
    if (isSimulated) at.simulated += n;
    return made;
  };
  return chunk.facts.map((facts, k) => ({ ...facts, windows: chunk.windows[k].map(window) }));
}
