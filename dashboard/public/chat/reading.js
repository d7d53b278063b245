// What the events of a response make of an answer. Pure: no page, no network, no clock of its own.

/** An answer that is about to be asked for. `base` is the text that it goes on with. */
export function newAnswer({ id, key, conversation, parent, options, base = "", now }) {
  return {
    id,
    conversation,
    parent,
    role: "assistant",
    created: now,
    text: base,
    base,
    key,
    options,
    response: null,
    sequence: -1,
    outcome: "waiting",
    error: null,
    finish: null,
    timedOut: false,
    dropped: 0,
    usage: null,
    timings: null,
    progress: null,
    model: null,
    pieces: 0,
    lost: false, // the connection to it is being made anew
    waitsFor: null, // what the model is at, where it is not ready
    stopping: false,
    asked: now,
    first: null,
    last: null,
  };
}

export function isRunning(answer) {
  return answer.outcome === "waiting" || answer.outcome === "streaming";
}

/** The answer behind `event`, as a new object; the same one where it was taken before. */
export function take(answer, event, now) {
  if (event.sequence_number <= answer.sequence) return answer;
  const next = { ...answer, sequence: event.sequence_number };
  if (event.response) takeResponse(next, event.response);
  switch (event.type) {
    case "response.prompt_progress":
      next.progress = {
        place: event.queue_place ?? null,
        total: event.total,
        cached: event.cache,
        processed: event.processed,
      };
      break;
    case "response.output_text.delta":
      if (event.delta === "") break;
      next.text += event.delta;
      next.outcome = "streaming";
      next.pieces += 1;
      next.first ??= now;
      next.last = now;
      break;
    case "response.completed":
    case "response.incomplete":
    case "response.failed":
      end(next, event.response);
      break;
    case "error":
      // The stream is too long to be kept; the response itself is whole and is fetched.
      next.streamTooLong = true;
      break;
  }
  return next;
}

/** The answer as a whole response has it, once that has ended. */
export function takeWhole(answer, response) {
  const next = { ...answer };
  takeResponse(next, response);
  if (!["queued", "in_progress"].includes(response.status)) end(next, response);
  return next;
}

/** The answer, stopped or failed where it is. */
export function broken(answer, outcome, error = null) {
  const key = reusable(answer, error);
  return { ...answer, outcome, error, key, progress: null, lost: false, waitsFor: null };
}

/** An answer that may have been begun keeps its key: asked for again, it is not made twice. */
function reusable(answer, error) {
  return error && mayHaveBegun(error) ? answer.key : null;
}

/** Whether an error leaves open that the server was asked: somewhere, a connection broke. */
export function mayHaveBegun({ code, status }) {
  return status === null || code === "stream_interrupted" || code === "upstream_timeout";
}

function takeResponse(next, response) {
  next.response = response.id;
  next.model = response.model ?? next.model;
  const told = response.sheily ?? {};
  next.dropped = told.dropped_messages ?? next.dropped;
  next.timedOut = told.timed_out ?? next.timedOut;
}

function end(next, response) {
  const text = textOf(response);
  // What the response says at last is the truth; a stream can only have less of it.
  if (text.length > next.text.length - next.base.length) next.text = next.base + text;
  next.progress = null;
  next.stopping = false;
  next.key = null; // asked for again, it is another response
  next.usage = response.usage ?? null;
  next.timings = response.timings ?? null;
  next.outcome = "done";
  if (response.status === "cancelled") next.outcome = "stopped";
  if (response.status === "incomplete") next.finish = "length";
  if (response.status === "failed") {
    next.outcome = "error";
    const { message, code } = response.error ?? {};
    const own = response.sheily?.error_code;
    next.error = { message: message ?? "", code: own ?? code ?? null, status: null };
  }
}

function textOf(response) {
  return (response.output ?? [])
    .flatMap((item) => item.content ?? [])
    .map((part) => part.text ?? "")
    .join("");
}

/** Tokens of the answer; a piece of the stream is about a token. */
export function tokensOf(answer) {
  return answer.usage?.output_tokens ?? answer.pieces;
}

/** Tokens a second behind the first one: the server's figure, or else a measured one; null for
 * none. */
export function speedOf(answer) {
  const said = answer.timings?.predicted_per_second;
  if (said) return said;
  const seconds = (answer.last - answer.first) / 1000;
  return answer.pieces > 1 && seconds > 0 ? (answer.pieces - 1) / seconds : null;
}

/** Tokens of the context that the conversation takes with this answer; null where it is unknown. */
export function contextOf(answer) {
  if (answer.usage) return answer.usage.total_tokens;
  return answer.progress ? answer.progress.total + answer.pieces : null;
}

/** Seconds from the question to the first text; null before it. */
export function firstAfter(answer) {
  if (answer.first === null) return null;
  return (answer.first - answer.asked) / 1000;
}
