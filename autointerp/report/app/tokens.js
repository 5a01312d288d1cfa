// Tokens as HTML: text isolated from its neighbours, white space and escapes visible, levels as classes.

const PART = /\\(?:([\\tnr])|u\{([0-9A-Fa-f]{1,6})\}|x([0-9A-Fa-f]{2})|s\{((?:[^}\\]|\\.|\\u\{[0-9A-Fa-f]+\})*)\})/g;
const NAMED = { n: "↵", t: "⇥", r: "⏎" };

// One escaped token; control characters and bytes become marked signs, a plain backslash stays one.
function tokenHtml(escaped) {
  let html = "";
  let end = 0;
  for (const match of escaped.matchAll(PART)) {
    html += plainHtml(escaped.slice(end, match.index));
    end = match.index + match[0].length;
    const [, named, code, byte, special] = match;
    if (named === "\\") html += "\\";
    else if (named) html += `<span class="ctl">${NAMED[named]}</span>`;
    else if (code) html += `<span class="ctl">U+${code.toUpperCase().padStart(4, "0")}</span>`;
    else if (byte) html += `<span class="ctl">${byte}</span>`;
    else html += `<span class="ctl">${escapeHtml(special)}</span>`;
  }
  return html + plainHtml(escaped.slice(end)) || '<span class="ctl">empty</span>';
}

function plainHtml(text) {
  const sign = (spaces) =>
    spaces.length > 4
      ? `<span class="ctl">·×${spaces.length}</span>`
      : `<span class="sp">${"·".repeat(spaces.length)}</span>`;
  return escapeHtml(text).replace(/ +/g, sign);
}

// A window's tokens: the true level above each, the simulated level below; a target alone has one below, and a frame.
function trackHtml(window, place) {
  const { simulated, target } = window;
  const cells = window.tokens.map((token, i) => {
    const t = window.levels[i];
    const s = simulated?.get(i);
    const below = s === undefined ? "" : ` s${s}`;
    const shown = (level) => level || (i === target ? 0 : "");
    const numbers = `data-t="${shown(t)}"${s === undefined ? "" : ` data-s="${shown(s)}"`}`;
    const name = `k t${t}${below}${i === target ? " target" : ""}`;
    return `<span class="${name}" ${numbers} data-i="${i}"><bdi>${tokenHtml(token)}</bdi></span>`;
  });
  return `<div class="track${simulated && target === null ? " both" : ""}" data-w="${place}">${cells.join("")}</div>`;
}
