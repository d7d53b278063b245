// The login page's words in each language; knows no element.

export const WORDS = {
  en: {
    title: "Sign in · SHEILY",
    why: "This dashboard has a password.",
    password: "Password",
    show: "Show the password",
    signIn: "Sign in",
    wrong_password: () => "That is not the password.",
    too_many_guesses: (wait) => `Too many wrong passwords. Try again in ${wait}.`,
    no_answer: () => "The dashboard does not answer. Is it running?",
    failed: (code) => `That did not work (${code}).`,
    seconds: (n) => (n === 1 ? "1 second" : `${n} seconds`),
    minutes: (n) => (n === 1 ? "1 minute" : `${n} minutes`),
  },
  es: {
    title: "Iniciar sesión · SHEILY",
    why: "Este panel tiene contraseña.",
    password: "Contraseña",
    show: "Mostrar la contraseña",
    signIn: "Entrar",
    wrong_password: () => "Esa no es la contraseña.",
    too_many_guesses: (wait) =>
      `Demasiadas contraseñas incorrectas. Vuelve a intentarlo en ${wait}.`,
    no_answer: () => "El panel no responde. ¿Está en marcha?",
    failed: (code) => `No ha funcionado (${code}).`,
    seconds: (n) => (n === 1 ? "1 segundo" : `${n} segundos`),
    minutes: (n) => (n === 1 ? "1 minuto" : `${n} minutos`),
  },
};

/** The sentence for an error, `{ code, seconds }`. */
export function problemText(language, { code, seconds = 0 }) {
  const words = WORDS[language];
  if (code === "too_many_guesses") return words.too_many_guesses(waitText(words, seconds));
  return code === "wrong_password" || code === "no_answer" ? words[code]() : words.failed(code);
}

/** Rounded up: who comes back then need not wait again. */
function waitText(words, seconds) {
  return seconds < 100 ? words.seconds(seconds) : words.minutes(Math.ceil(seconds / 60));
}
