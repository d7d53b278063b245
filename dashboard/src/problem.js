// What goes wrong, in the LLM server's own shape of an error; knows nothing of HTTP messages.

/** An error with its HTTP status and its code; a person reads `message`. `more` may have `param`,
 * the place in the request, `type` and `headers`. */
export class Problem extends Error {
  constructor(status, code, message, more = {}) {
    const { param = null, type = "dashboard_error", headers = {} } = more;
    super(message);
    this.status = status;
    this.code = code;
    this.param = param;
    this.type = type;
    this.headers = headers;
  }

  body() {
    const { message, type, param, code } = this;
    return { error: { message, type, param, code } };
  }
}

/** An error of the LLM server, whose body and Retry-After reach the page as they are. */
export class Refusal extends Problem {
  constructor(status, said, headers) {
    super(status, said.error.code, said.error.message, { headers });
    this.said = said;
  }

  body() {
    return this.said;
  }
}

/** Bad input; `param` is its place. */
export function invalid(message, param = null, code = "invalid_value") {
  return new Problem(400, code, message, { param, type: "invalid_request_error" });
}

/** The LLM server's words for a response that does not exist. */
export function unknownResponse(id) {
  return new Problem(404, "response_not_found", `Response with id '${id}' not found.`, {
    param: "id",
    type: "invalid_request_error",
  });
}

/** Codes of connections that never came to be, so that nothing was asked. */
const NOT_ASKED = new Set([
  "EAI_AGAIN",
  "ECONNREFUSED",
  "EHOSTUNREACH",
  "ENETUNREACH",
  "ENOTFOUND",
  "UND_ERR_CONNECT_TIMEOUT",
]);

/** Why `fetch` failed. A connection that broke may have brought the request to the server: whoever
 * asked cannot know, which is another error than that nothing could be asked. */
export function unreachable(llmUrl, error) {
  const cause = error.cause ?? error;
  const why = cause.code ?? cause.message ?? String(cause);
  if (!NOT_ASKED.has(cause.code) && !(cause.errors ?? []).some(({ code }) => NOT_ASKED.has(code))) {
    return interrupted(`the connection to the LLM server broke (${why})`);
  }
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
