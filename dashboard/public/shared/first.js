// Before anything is drawn: the theme that was chosen, so that no page flashes in another one.

try {
  const stored = localStorage.getItem("sheily-theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
} catch {
  // storage is switched off
}
