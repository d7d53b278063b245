// The login page: asks for the password and goes to the page that was wanted. It keeps nothing.

import { firstLanguage, rememberLanguage } from "../shared/language.js";
import { problemText, WORDS } from "./words.js";

const WANTED = new Set(["/metrics.html"]); // no other place, which a link to this page could name

const form = document.getElementById("sign-in");
const field = document.getElementById("password");
const shown = document.getElementById("problem");
const submit = form.querySelector("button");
let language = firstLanguage();
let problem = null;

function draw() {
  const words = WORDS[language];
  document.documentElement.lang = language;
  document.title = words.title;
  for (const each of document.querySelectorAll("[data-text]")) {
    each.textContent = words[each.dataset.text];
  }
  for (const each of document.querySelectorAll("[data-language]")) {
    each.setAttribute("aria-pressed", String(each.dataset.language === language));
  }
  shown.textContent = problem ? problemText(language, problem) : "";
  field.setAttribute("aria-invalid", String(problem?.code === "wrong_password"));
}

/** Tries the password; what went wrong, or null. */
async function signIn(password) {
  let answer;
  try {
    answer = await fetch("/api/session", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ password }),
    });
  } catch {
    return { code: "no_answer" };
  }
  if (answer.ok) return null;
  const said = await answer.json().catch(() => null);
  const seconds = Number(answer.headers.get("Retry-After"));
  return { code: said?.error?.code ?? String(answer.status), seconds };
}

async function submitted(event) {
  event.preventDefault();
  if (submit.disabled) return;
  submit.disabled = true;
  problem = null;
  draw(); // the same sentence again is a new one to who hears it
  problem = await signIn(field.value);
  if (problem === null) {
    const wanted = new URLSearchParams(location.search).get("to");
    location.replace(WANTED.has(wanted) ? wanted : "/");
    return;
  }
  submit.disabled = false;
  draw();
  field.focus();
  field.select();
}

form.addEventListener("submit", submitted);
document.getElementById("show").addEventListener("change", (event) => {
  field.type = event.target.checked ? "text" : "password";
});
for (const each of document.querySelectorAll("[data-language]")) {
  each.addEventListener("click", () => {
    language = each.dataset.language;
    rememberLanguage(language);
    draw();
  });
}
draw();
