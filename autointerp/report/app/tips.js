// Small boxes with the values of what is under the pointer.

const tip = byId("tip");
function hideTip() {
  tip.hidden = true;
}

// The values of one token of a window.
function showTip(cell, w) {
  const i = Number(cell.dataset.i);
  const lines = [["true level", w.levels[i]]];
  if (w.activations.has(i)) lines.unshift(["activation", quantity(w.activations.get(i))]);
  const said = w.simulated?.get(i);
  if (said !== undefined) lines.push(["simulated", said], ["error", fixed(said - w.levels[i], 0, true)]);
  tellBeside(cell.getBoundingClientRect(), `<code><bdi>${tokenHtml(w.tokens[i])}</bdi></code>`, lines);
}

function tellBeside(at, title, lines) {
  tip.innerHTML = `${title}<dl>${lines.map(([k, v]) => `<dt>${k}</dt><dd>${v}</dd>`).join("")}</dl>`;
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${clamp(at.left + at.width / 2 - box.width / 2, 6, innerWidth - box.width - 6)}px`;
  tip.style.top = `${at.top - box.height - 6 > 0 ? at.top - box.height - 6 : at.bottom + 6}px`;
}

// A mouse shows a token's values while it is over it; a finger shows them until it taps elsewhere. `windowOf` names the
// window that a track shows.
function listenForTips(box, windowOf) {
  const tell = (event) => {
    const cell = event.target.closest(".k[data-i]");
    if (cell) showTip(cell, windowOf(cell.closest(".track")));
    else hideTip();
  };
  box.addEventListener("pointerover", (event) => event.pointerType === "mouse" && tell(event));
  box.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hideTip());
  box.addEventListener("click", tell);
  box.addEventListener("scroll", hideTip, true);
}
