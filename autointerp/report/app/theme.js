// Light, dark, or as the system; what is drawn by hand listens for the event `theme`.

const THEMES = ["auto", "light", "dark"];

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  byId("theme-name").textContent = name;
  remember("theme", name);
  dispatchEvent(new Event("theme"));
}

const nextTheme = () => setTheme(THEMES[(THEMES.indexOf(document.documentElement.dataset.theme) + 1) % 3]);

function startTheme() {
  const kept = remember("theme");
  setTheme(THEMES.includes(kept) ? kept : "auto");
  byId("theme").hidden = false;
  byId("theme").addEventListener("click", nextTheme);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => dispatchEvent(new Event("theme")));
}
