// The report's features: rows at once, details on demand.

const DICTIONARIES = DATA.dictionaries;
const ROWS = DATA.rows.map((r, position) => ({
  position,
  dictionary: r[0],
  index: r[1],
  id: `${DICTIONARIES[r[0]].id}/${r[1]}`,
  state: r[2],
  reason: r[3],
  whyKind: r[4],
  why: r[5],
  explanation: r[6],
  author: r[7],
  singleToken: r[8] === null ? null : r[8] === 1,
  untested: r[9] === 1,
  density: r[10],
  active: r[11],
  max: r[12],
  score: r[13].slice(0, 3),
  value: r[13][0],
  nullThreshold: r[13][3],
  ceiling: r[13][4],
  lookup: r[14],
  lift: r[15],
}));
const BY_ID = new Map(ROWS.map((row) => [row.id, row]));
const chunks = new Map();

// Facts and windows of one feature.
async function detailOf(row) {
  const number = Math.floor(row.position / DATA.perChunk);
  if (!chunks.has(number)) chunks.set(number, readText(`chunk-${number}`).then((text) => unpack(JSON.parse(text))));
  const detail = (await chunks.get(number))[row.position % DATA.perChunk];
  await withTokens(detail.windows);
  return detail;
}

function unpack(chunk) {
  const windows = unpackWindows(chunk);
  return chunk.facts.map((facts, k) => ({ ...facts, windows: windows[k] }));
}
