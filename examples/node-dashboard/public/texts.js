// Every word of the page in English and Spanish, and which of the two is shown.

const STORED_AS = "sheily-language";

export const TEXTS = {
  en: {
    skip: "Skip to the question",
    language: "Language",
    newChat: "New chat",
    modelPanel: "The model",
    more: "Details",
    model: "Model",
    context: "Context",
    active: "Requests at work",
    restarts: "Engine restarts",
    lastAnswer: "Last answer",
    speed: "Speed",
    firstToken: "First token after",
    promptTokens: "Prompt tokens",
    contextUsed: "Context used",
    loadingBar: "Loading the model",
    log: "Conversation",
    welcome: "What would you like to know?",
    welcomeMore: "The model runs on this machine. Nothing leaves it.",
    idea1: "Explain in three sentences how a volcano is born.",
    idea2: "Write a short, friendly note that moves a meeting to Thursday.",
    idea3: "Give me five names for a small bakery by the sea.",
    question: "Your question",
    placeholder: "Ask something…",
    send: "Send",
    stop: "Stop",
    keys: "Enter sends · Shift+Enter: new line · Esc stops",
    you: "You",
    answer: "Answer",
    waiting: "The model is reading…",
    stopped: "Stopped",
    tooLong: "Cut off at the longest answer allowed",
    timedOut: "Cut off: the time limit of the server passed",
    again: "Try again",
    edit: "Edit the question",
    advice: {
      context_length_exceeded:
        "Everything before this question was left out already; it is too long by itself. Shorten it, " +
        "or start the server with a larger LLM_CONTEXT_SIZE.",
      request_too_large: "The conversation is too large to be sent. Begin a new chat.",
      invalid_api_key:
        "The server wants a key. Start this dashboard with LLM_API_KEY set to one of the server's.",
    },
    failed: "No answer",
    brokenOff: "The answer broke off",
    retryAfter: (seconds) => `The server suggests to wait ${seconds} s.`,
    dropped: (n) =>
      n === 1
        ? "The oldest message was left out: the model no longer saw it."
        : `The ${n} oldest messages were left out: the model no longer saw them.`,
    tokens: (n) => `${n} ${n === "1" ? "token" : "tokens"}`,
    cached: (all, cached) => `${all}, ${cached} cached`,
    ofContext: (used, size) => `${used} of ${size}`,
    ofParallel: (n, parallel) => `${n} of ${parallel}`,
    perSecond: (n) => `${n} tokens/s`,
    seconds: (n) => `${n} s`,
    state: {
      unknown: "Asking the server…",
      loading: "Loading the model",
      ready: "Ready",
      restarting: "Restarting",
      draining: "Shutting down",
      failed: "The model failed",
      offline: "Server not reachable",
    },
  },
  es: {
    skip: "Ir a la pregunta",
    language: "Idioma",
    newChat: "Nuevo chat",
    modelPanel: "El modelo",
    more: "Detalles",
    model: "Modelo",
    context: "Contexto",
    active: "Peticiones en curso",
    restarts: "Reinicios del motor",
    lastAnswer: "Última respuesta",
    speed: "Velocidad",
    firstToken: "Primer token tras",
    promptTokens: "Tokens de entrada",
    contextUsed: "Contexto usado",
    loadingBar: "Carga del modelo",
    log: "Conversación",
    welcome: "¿Qué te gustaría saber?",
    welcomeMore: "El modelo funciona en este equipo. Nada sale de él.",
    idea1: "Explica en tres frases cómo nace un volcán.",
    idea2: "Escribe una nota breve y amable para pasar una reunión al jueves.",
    idea3: "Dame cinco nombres para una pequeña panadería junto al mar.",
    question: "Tu pregunta",
    placeholder: "Pregunta algo…",
    send: "Enviar",
    stop: "Parar",
    keys: "Intro envía · Mayús+Intro: otra línea · Esc detiene",
    you: "Tú",
    answer: "Respuesta",
    waiting: "El modelo está leyendo…",
    stopped: "Detenida",
    tooLong: "Cortada: es la respuesta más larga permitida",
    timedOut: "Cortada: pasó el tiempo límite del servidor",
    again: "Reintentar",
    edit: "Editar la pregunta",
    advice: {
      context_length_exceeded:
        "Ya se dejó fuera todo lo anterior a esta pregunta; es demasiado larga por sí sola. Acórtala " +
        "o inicia el servidor con un LLM_CONTEXT_SIZE mayor.",
      request_too_large: "La conversación es demasiado grande para enviarla. Empieza un nuevo chat.",
      invalid_api_key:
        "El servidor pide una clave. Inicia este panel con LLM_API_KEY, con una de las del servidor.",
    },
    failed: "Sin respuesta",
    brokenOff: "La respuesta se cortó",
    retryAfter: (seconds) => `El servidor aconseja esperar ${seconds} s.`,
    dropped: (n) =>
      n === 1
        ? "El mensaje más antiguo se dejó fuera: el modelo ya no lo vio."
        : `Los ${n} mensajes más antiguos se dejaron fuera: el modelo ya no los vio.`,
    tokens: (n) => `${n} ${n === "1" ? "token" : "tokens"}`,
    cached: (all, cached) => `${all}, ${cached} en caché`,
    ofContext: (used, size) => `${used} de ${size}`,
    ofParallel: (n, parallel) => `${n} de ${parallel}`,
    perSecond: (n) => `${n} tokens/s`,
    seconds: (n) => `${n} s`,
    state: {
      unknown: "Preguntando al servidor…",
      loading: "Cargando modelo",
      ready: "Listo",
      restarting: "Reiniciando",
      draining: "Apagándose",
      failed: "El modelo ha fallado",
      offline: "No se puede conectar con el servidor",
    },
  },
};

/** The language that was chosen last, or the browser's, or English. */
export function firstLanguage() {
  let stored = null;
  try {
    stored = localStorage.getItem(STORED_AS);
  } catch {
    // storage is switched off
  }
  if (stored in TEXTS) return stored;
  const wanted = navigator.languages.map((language) => language.slice(0, 2).toLowerCase());
  return wanted.find((language) => language in TEXTS) ?? "en";
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
