// Which language a page speaks, and how that writes numbers and times; has no words itself.

const STORED_AS = "sheily-language";

export const LANGUAGES = { en: "English", es: "Español" };

/** The language that was chosen last, or the browser's, or English. */
export function firstLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem(STORED_AS);
  } catch {
    // storage is switched off
  }
  if (stored !== null && Object.hasOwn(LANGUAGES, stored)) return stored;
  const wanted = navigator.languages.map((language) => language.slice(0, 2).toLowerCase());
  return wanted.find((language) => Object.hasOwn(LANGUAGES, language)) ?? "en";
}

export function rememberLanguage(language) {
  try {
    localStorage.setItem(STORED_AS, language);
  } catch {
    // storage is switched off: it lasts until the page is closed
  }
}

/** Digits as the language groups them. */
export function number(language, value, digits = 0) {
  return value.toLocaleString(language, {
    minimumFractionDigits: digits,
    maximumFractionDigits: digits,
    useGrouping: "always",
  });
}
