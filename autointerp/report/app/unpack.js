// What a page carries compressed, opened on demand. The inverse of pack.py.

const DATA = JSON.parse(byId("data").textContent);
const blocks = new Map();

async function inflate(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).text();
}

function whenParsed() {
  if (document.readyState !== "loading") return Promise.resolve();
  return new Promise((done) => document.addEventListener("DOMContentLoaded", done, { once: true }));
}

async function readText(id) {
  if (!byId(id)) await whenParsed();
  return inflate(byId(id).textContent);
}

// Windows with their text.
async function withTokens(windows) {
  await Promise.all(windows.map(async (w) => (w.tokens ??= await tokensAt(w.at, w.levels.length))));
  return windows;
}

// Text stands in blocks that all features share; a window lies in one of them.
async function tokensAt(at, n) {
  const place = DATA.blocks.findLastIndex((first) => first <= at);
  if (!blocks.has(place)) blocks.set(place, readText(`block-${place}`).then((text) => text.split("\n")));
  const first = at - DATA.blocks[place];
  return (await blocks.get(place)).slice(first, first + n);
}

// The windows of each feature of a chunk.
function unpackWindows(chunk) {
  const next = { window: 0, levels: 0, simulated: 0, activation: 0, silent: 0, target: 0 };
  const digits = (text) => Array.from(text, (digit) => parseInt(digit, 16));
  const take = (name, n) => digits(chunk[name].slice(next[name], (next[name] += n)));
  const window = (kind) => {
    const [part, stratum, decile, n, hasTarget, isSimulated, isMasked] = chunk.heads[kind];
    const target = hasTarget ? chunk.target[next.target++] : null;
    const levels = take("levels", n);
    const scored = target === null ? levels.map((_, i) => i) : [target];
    const active = isMasked ? digits(chunk.silent[next.silent++]) : scored.map((i) => levels[i]);
    const numbers = active.map((a) => (a ? chunk.activations[next.activation++] : 0));
    const said = isSimulated ? take("simulated", scored.length) : null;
    return {
      part,
      stratum,
      decile,
      document: chunk.documents[chunk.document[next.window]],
      at: chunk.at[next.window++],
      tokens: null,
      levels,
      target,
      scored, // places of the tokens that are asked for
      activations: new Map(scored.map((i, k) => [i, numbers[k]])),
      simulated: said && new Map(scored.map((i, k) => [i, said[k]])),
    };
  };
  return chunk.windows.map((kinds) => kinds.map(window));
}
