// Light, dark, or what the system has; knows where that is kept, and nothing of colours.

const STORED_AS = "sheily-theme";

export const THEMES = ["auto", "light", "dark"];

/** The theme that was chosen last. */
export function theme() {
  let stored = null;
  try {
    stored = localStorage.getItem(STORED_AS);
  } catch {
    // storage is switched off
  }
  return THEMES.includes(stored) ? stored : "auto";
}

export function applyTheme(value = theme()) {
  if (value === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = value;
}

export function setTheme(value) {
  try {
    localStorage.setItem(STORED_AS, value);
  } catch {
    // storage is switched off: it lasts until the page is closed
  }
  applyTheme(value);
}
