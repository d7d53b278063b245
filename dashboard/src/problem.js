// What goes wrong, in the LLM server's own shape of an error; knows nothing of HTTP messages.

/** An error with its HTTP status and its code; a person reads `message`. */
export class Problem extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }

  body() {
    return {
      error: { message: this.message, type: "dashboard_error", param: null, code: this.code },
    };
  }
}

/** Why `fetch` failed: a refused connection, an unknown name, a reset. */
export function unreachable(llmUrl, error) {
  const cause = error.cause ?? error;
  const why = cause.code ?? cause.message ?? String(cause);
  return new Problem(
    502,
    "server_unreachable",
    `The LLM server at ${llmUrl.origin} cannot be reached (${why}). Is it running?`,
  );
}

export function notTheServer(llmUrl, status) {
  return new Problem(
    502,
    "bad_upstream_response",
    `What answers at ${llmUrl.origin} (status ${status}) is not the LLM server: check LLM_URL.`,
  );
}

export function interrupted(why) {
  return new Problem(502, "stream_interrupted", `The answer was interrupted: ${why}.`);
}

export function timedOut(llmUrl, ms) {
  return new Problem(
    504,
    "upstream_timeout",
    `The LLM server at ${llmUrl.origin} did not answer within ${ms / 1000} seconds.`,
  );
}
