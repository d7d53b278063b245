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
    original: "The server's own words",
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
    promptTokens: "Tokens del prompt",
    contextUsed: "Contexto usado",
    loadingBar: "Carga del modelo",
    log: "Conversación",
    welcome: "¿Qué te gustaría saber?",
    welcomeMore: "El modelo se ejecuta en este equipo. Nada sale de él.",
    idea1: "Explica en tres frases cómo nace un volcán.",
    idea2: "Escribe una nota breve y amable para cambiar una reunión al jueves.",
    idea3: "Dame cinco nombres para una pequeña panadería junto al mar.",
    question: "Tu pregunta",
    placeholder: "Pregunta algo…",
    send: "Enviar",
    stop: "Detener",
    keys: "Intro envía · Mayús+Intro: nueva línea · Esc detiene",
    you: "Tú",
    answer: "Respuesta",
    waiting: "El modelo está leyendo…",
    stopped: "Detenida",
    tooLong: "Cortada: ha alcanzado la longitud máxima permitida",
    timedOut: "Cortada: se ha agotado el tiempo límite del servidor",
    again: "Reintentar",
    edit: "Editar la pregunta",
    advice: {
      context_length_exceeded:
        "Ya se ha omitido todo lo anterior: la pregunta es demasiado larga por sí sola. Acórtala o " +
        "arranca el servidor con un LLM_CONTEXT_SIZE mayor.",
      request_too_large: "La conversación es demasiado larga para enviarla. Empieza un nuevo chat.",
      invalid_api_key:
        "El servidor pide una clave. Arranca este panel con una de las suyas en LLM_API_KEY.",
    },
    failed: "Sin respuesta",
    brokenOff: "La respuesta se ha cortado",
    original: "Mensaje original, en inglés",
    retryAfter: (seconds) => `El servidor aconseja esperar ${seconds} s.`,
    dropped: (n) =>
      n === 1
        ? "Se ha omitido el mensaje más antiguo: el modelo ya no lo ha visto."
        : `Se han omitido los ${n} mensajes más antiguos: el modelo ya no los ha visto.`,
    tokens: (n) => `${n} ${n === "1" ? "token" : "tokens"}`,
    cached: (all, cached) => `${all}, ${cached} en caché`,
    ofContext: (used, size) => `${used} de ${size}`,
    ofParallel: (n, parallel) => `${n} de ${parallel}`,
    perSecond: (n) => `${n} tokens/s`,
    seconds: (n) => `${n} s`,
    state: {
      unknown: "Consultando el servidor…",
      loading: "Cargando el modelo",
      ready: "Listo",
      restarting: "Reiniciando",
      draining: "Apagándose",
      failed: "El modelo ha fallado",
      offline: "No se puede conectar con el servidor",
    },
  },
};

// What the errors say that people meet, by their codes. The servers word theirs in English.
const ERRORS = {
  es: {
    context_length_exceeded: "La pregunta no cabe en el contexto del modelo.",
    request_too_large: "La petición supera el tamaño máximo que acepta el servidor.",
    request_crashes_engine:
      "El motor se ha caído cada vez que ha trabajado en esta misma petición.",
    invalid_api_key: "Falta la clave de API o no es correcta.",
    host_not_allowed: "El servidor no responde al nombre con el que se le ha llamado.",
    model_not_found: "El servidor no tiene ese modelo.",
    queue_full: "El servidor está ocupado y su cola está llena.",
    model_unavailable: "No se puede usar el modelo. El estado del modelo dice por qué.",
    engine_error: "El motor ha fallado con esta petición. El registro del servidor dice por qué.",
    internal_error: "Se ha producido un error interno. El registro dice por qué.",
    loading: "El modelo aún se está cargando.",
    restarting: "El motor se está reiniciando.",
    shutting_down: "El servidor se está apagando.",
    engine_crashed: "El motor se ha caído mientras trabajaba en esta petición.",
    timeout: "Se ha agotado el tiempo límite antes de que la respuesta empezara o terminara.",
    server_unreachable: "El panel no puede conectar con el servidor LLM. ¿Está en marcha?",
    bad_upstream_response: "Lo que responde en LLM_URL no es el servidor LLM.",
    upstream_timeout: "El servidor LLM no ha respondido a tiempo.",
    stream_interrupted: "La respuesta se ha interrumpido.",
    dashboard_unreachable: "No se puede conectar con el panel. ¿Está en marcha?",
    bad_response: "El panel ha respondido con algo que no es suyo.",
  },
};

/** What an error says in a language; null where there are only its own words. */
export function errorText(language, code) {
  const known = ERRORS[language] ?? {};
  return Object.hasOwn(known, code) ? known[code] : null;
}

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
