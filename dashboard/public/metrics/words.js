// The words of the page of metrics, in English and Spanish.

const plural = (n, one, many) => (n === 1 ? one : many);

export const WORDS = {
  en: {
    title: "Metrics",
    back: "Back to the chat",
    window: "Time shown",
    windows: { 300: "5 min", 900: "15 min", 3600: "1 hour" },
    state: "Server",
    states: {
      loading: "Loading the model",
      ready: "Ready",
      restarting: "Restarting",
      draining: "Shutting down",
      failed: "The model failed",
      away: "Not reachable",
    },
    speed: "Tokens/s",
    waiting: "Waiting",
    cells: "KV cache in use",
    restarts: "Engine restarts",
    none: "No data yet. The dashboard looks every two seconds.",
    neverUp: "The LLM server has not answered yet. Is it running? The charts begin when it does.",
    idle: "The server has had no request yet. Ask something in the chat, and the charts show it.",
    lost: "The dashboard's backend cannot be reached. Trying again…",
    wrong: (message) => `The dashboard has no figures now: ${message} Trying again…`,
    away: (seconds) => `The server did not answer for ${seconds} s of this time (hatched).`,
    unseen: (seconds) => `For ${seconds} s there are no figures: the dashboard did not look.`,
    restarted: (n) => `The engine was started again ${plural(n, "once", `${n} times`)} (marked).`,
    panels: {
      generated: "Tokens generated a second",
      prompt: "Prompt tokens a second",
      first: "Time to the first token",
      cells: "KV cells",
      requests: "Requests",
      outcomes: "Requests that ended",
    },
    series: {
      generated: "tokens/s",
      computed: "computed",
      cached: "from the cache",
      answers: "answers",
      used: "in use",
      kept: "prefixes kept",
      all: "all cells",
      running: "at work",
      queued: "waiting",
      background: "in the background",
      ok: "without error",
      gone: "left by the client",
      refused: "refused",
      failed: "failed",
    },
    says: {
      nothing: "No figures in this time.",
      nothingNow: "No figures now.",
      generated: (now, least, most) =>
        `${now === null ? "" : `${now} tokens/s now; `}from ${least} to ${most} in this time.`,
      prompt: (all, cached, share) =>
        `${all} tokens read; the cache had ${cached} of them (${share}).`,
      promptNone: "No prompt was read in this time.",
      first: (n, one, median, p95) =>
        `${n} ${one ? "answer" : "answers"}: half began ${median}, 95 of 100 ${p95}.`,
      firstNone: "No answer began in this time.",
      within: (time) => `within ${time}`,
      longerThan: (time) => `after more than ${time}`,
      cells: (used, all, kept, most) =>
        `${used} of ${all} in use now, at most ${most}; ${kept} keep prefixes for later.`,
      requests: (running, queued) =>
        `${running.now} at work now, at most ${running.most}; ` +
        `${queued.now} waiting, at most ${queued.most}.`,
      outcomes: (ok, gone, refused, failed) =>
        `${ok} without error, ${gone} left by the client, ${refused} refused, ${failed} failed.`,
      outcomesNone: "No request ended in this time.",
    },
    points: (title) => `${title}: points of the chart`,
    latest: "At the end; the arrow keys move through the chart",
    upTo: (time) => `up to ${time}`,
    beyond: "longer",
  },
  es: {
    title: "Métricas",
    back: "Volver al chat",
    window: "Tiempo mostrado",
    windows: { 300: "5 min", 900: "15 min", 3600: "1 hora" },
    state: "Servidor",
    states: {
      loading: "Cargando el modelo",
      ready: "Listo",
      restarting: "Reiniciando",
      draining: "Apagándose",
      failed: "El modelo ha fallado",
      away: "Sin conexión",
    },
    speed: "Tokens/s",
    waiting: "En espera",
    cells: "Caché KV en uso",
    restarts: "Reinicios del motor",
    none: "Aún no hay datos. El panel mira cada dos segundos.",
    neverUp: "El servidor LLM aún no ha respondido. ¿Está en marcha? Los gráficos empiezan con él.",
    idle: "El servidor aún no ha recibido peticiones. Pregunta algo en el chat y aquí se verá.",
    lost: "No se puede conectar con el panel. Reintentando…",
    wrong: (message) => `El panel no tiene cifras ahora: ${message} Reintentando…`,
    away: (seconds) => `El servidor no respondió durante ${seconds} s de este tiempo (rayado).`,
    unseen: (seconds) => `De ${seconds} s no hay cifras: el panel no estaba mirando.`,
    restarted: (n) => `El motor se ha reiniciado ${plural(n, "una vez", `${n} veces`)} (marcado).`,
    panels: {
      generated: "Tokens generados por segundo",
      prompt: "Tokens de prompt por segundo",
      first: "Tiempo hasta el primer token",
      cells: "Celdas KV",
      requests: "Peticiones",
      outcomes: "Peticiones terminadas",
    },
    series: {
      generated: "tokens/s",
      computed: "calculados",
      cached: "de la caché",
      answers: "respuestas",
      used: "en uso",
      kept: "prefijos guardados",
      all: "todas las celdas",
      running: "en curso",
      queued: "en espera",
      background: "en segundo plano",
      ok: "sin error",
      gone: "abandonadas por el cliente",
      refused: "rechazadas",
      failed: "fallidas",
    },
    says: {
      nothing: "No hay cifras de este tiempo.",
      nothingNow: "Ahora no hay cifras.",
      generated: (now, least, most) =>
        `${now === null ? "" : `${now} tokens/s ahora; `}entre ${least} y ${most} en este tiempo.`,
      prompt: (all, cached, share) =>
        `${all} tokens leídos; ${cached} ya estaban en la caché (${share}).`,
      promptNone: "No se ha leído ningún prompt en este tiempo.",
      first: (n, one, median, p95) =>
        `${n} ${one ? "respuesta" : "respuestas"}: la mitad empezó ${median}; ` +
        `95 de cada 100, ${p95}.`,
      firstNone: "Ninguna respuesta ha empezado en este tiempo.",
      within: (time) => `en menos de ${time}`,
      longerThan: (time) => `tras más de ${time}`,
      cells: (used, all, kept, most) =>
        `${used} de ${all} en uso ahora, ${most} como máximo; ${kept} guardan prefijos para después.`,
      requests: (running, queued) =>
        `${running.now} en curso ahora, ${running.most} como máximo; ` +
        `${queued.now} en espera, ${queued.most} como máximo.`,
      outcomes: (ok, gone, refused, failed) =>
        `${ok} sin error, ${gone} abandonadas por el cliente, ${refused} rechazadas, ` +
        `${failed} fallidas.`,
      outcomesNone: "Ninguna petición ha terminado en este tiempo.",
    },
    points: (title) => `${title}: puntos del gráfico`,
    latest: "Al final; las flechas recorren el gráfico",
    upTo: (time) => `hasta ${time}`,
    beyond: "más",
  },
};
