// The words of the login page.

import assert from "node:assert/strict";
import { test } from "node:test";

import { problemText, WORDS } from "../public/login/words.js";

test("both languages have every word, and functions in the same places", () => {
  const shape = (words) => Object.entries(words).map(([name, value]) => [name, typeof value]);
  assert.deepEqual(shape(WORDS.es), shape(WORDS.en));
});

test("each error is a sentence, and a wait is in seconds or minutes", () => {
  for (const [problem, english, spanish] of [
    [{ code: "wrong_password" }, "That is not the password.", "Esa no es la contraseña."],
    [
      { code: "too_many_guesses", seconds: 1 },
      "Too many wrong passwords. Try again in 1 second.",
      "Demasiadas contraseñas incorrectas. Vuelve a intentarlo en 1 segundo.",
    ],
    [
      { code: "too_many_guesses", seconds: 128 },
      "Too many wrong passwords. Try again in 3 minutes.",
      "Demasiadas contraseñas incorrectas. Vuelve a intentarlo en 3 minutos.",
    ],
    [{ code: "valueOf" }, "That did not work (valueOf).", "No ha funcionado (valueOf)."],
  ]) {
    assert.equal(problemText("en", problem), english);
    assert.equal(problemText("es", problem), spanish);
  }
});
