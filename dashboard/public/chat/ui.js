// What is open and chosen on the page, apart from its conversations: language, theme, dialogs,
// the question that is being written. Signals, and nothing of how they look.

import { computed, signal } from "@preact/signals";
import { createContext } from "preact";
import { useContext } from "preact/hooks";

import { firstLanguage, number, rememberLanguage } from "../shared/language.js";
import { setTheme, theme } from "../shared/theme.js";
import { WORDS } from "./words/index.js";

export class Ui {
  constructor() {
    this.language = signal(firstLanguage());
    this.words = computed(() => WORDS[this.language.value]);
    this.theme = signal(theme());
    this.sidebar = signal(isWide()); // whether the list is seen
    this.dialog = signal(null); // { name, ... } of the one that is open
    this.draft = signal(""); // the question that is being written
    this.documents = signal([]); // { id, name, state, document?, code? } that go with it
    this.editing = signal(null); // the id of the question that is being edited
    this.query = signal(""); // what is searched for
    this.said = signal(""); // told to screen readers
  }

  /** Where the list lies over the conversation, it goes once something was chosen in it. */
  leaveSidebar() {
    if (!isWide()) this.sidebar.value = false;
  }

  setLanguage(language) {
    rememberLanguage(language);
    this.language.value = language;
    document.documentElement.lang = language;
  }

  setTheme(value) {
    setTheme(value);
    this.theme.value = value;
  }

  /** Tells a screen reader, also the same words again. */
  say(text) {
    this.said.value = this.said.value === text ? `${text}\u00a0` : text;
  }

  number(value, digits = 0) {
    return number(this.language.value, value, digits);
  }
}

/** As css/sidebar.css has it. */
function isWide() {
  return matchMedia("(min-width: 56rem)").matches;
}

const Page = createContext(null);
export const PageProvider = Page.Provider;

/** `{ chat, ui, words }` for a view. */
export function usePage() {
  const page = useContext(Page);
  return { ...page, words: page.ui.words.value };
}
