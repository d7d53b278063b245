// The page's answers, which the LLM server makes in the background and keeps; knows whose they are,
// and what a page may ask for. Keeps none itself.

import { createHash } from "node:crypto";

import { isObject } from "./http.js";
import { invalid, unknownResponse } from "./problem.js";
import { relay } from "./relay.js";
import { call } from "./upstream.js";

const ID = /^[A-Za-z0-9_-]{1,128}$/;
const MAX_KEY = 200;
// No field that names another response: to the LLM server all sessions are one caller.
const FIELDS = new Set([
  "continue_final_message",
  "frequency_penalty",
  "include",
  "input",
  "instructions",
  "logit_bias",
  "max_output_tokens",
  "min_p",
  "model",
  "parallel_tool_calls",
  "presence_penalty",
  "repeat_penalty",
  "repetition_penalty",
  "seed",
  "stop",
  "temperature",
  "text",
  "tool_choice",
  "tools",
  "top_k",
  "top_logprobs",
  "top_p",
  "truncation",
]);
const ITEMS = new Set(["message", "function_call", "function_call_output", "reasoning"]);

/**
 * Has `body`, `{ key, request }`, answered for a session. The same key is the same response, so a
 * page that lost its line may send it again. The response goes on when the browser leaves.
 */
export async function makeResponse(context, session, body, response) {
  checkBody(body);
  await relay(context, response, "v1/responses", {
    method: "POST",
    headers: { "Idempotency-Key": idempotencyKey(session, body.key) },
    body: {
      ...body.request,
      background: true,
      return_progress: true,
      store: true,
      stream: true,
      user: session.user,
    },
  });
}

/** Streams the events of a session's response, behind number `after` if that is not null. */
export async function followResponse(context, session, id, after, response) {
  if (after !== null && !/^\d{1,15}$/.test(after)) {
    throw invalid("after is the number of an event, from 0.", "after");
  }
  await ownResponse(context, session, id);
  const behind = after === null ? "" : `&starting_after=${after}`;
  await relay(context, response, `v1/responses/${id}?stream=true${behind}`);
}

export function fetchResponse(context, session, id) {
  return ownResponse(context, session, id);
}

export async function cancelResponse(context, session, id) {
  await ownResponse(context, session, id);
  return call(context.llm, context.limits.call, `v1/responses/${id}/cancel`, { method: "POST" });
}

export async function deleteResponse(context, session, id) {
  await ownResponse(context, session, id);
  return call(context.llm, context.limits.call, `v1/responses/${id}`, { method: "DELETE" });
}

/** The response. Throws Problem, the same for another session's as for none. */
async function ownResponse({ llm, limits }, session, id) {
  if (!ID.test(id)) throw unknownResponse(id.slice(0, 100));
  const found = await call(llm, limits.call, `v1/responses/${id}`);
  if (found?.user !== session.user) throw unknownResponse(id);
  return found;
}

function checkBody({ key, request, ...others }) {
  const unknown = Object.keys(others)[0];
  if (unknown !== undefined) throw invalid("The body has key and request.", unknown);
  if (typeof key !== "string" || key === "" || key.length > MAX_KEY) {
    throw invalid(`key is a text of 1 to ${MAX_KEY} characters.`, "key");
  }
  if (!isObject(request)) throw invalid("request is an object.", "request");
  for (const name of Object.keys(request)) {
    if (!FIELDS.has(name)) {
      throw invalid("A page cannot set this field.", `request.${name.slice(0, 64)}`);
    }
  }
  if (Array.isArray(request.input)) request.input.forEach(checkItem);
}

function checkItem(item, i) {
  if (!isObject(item)) return; // the LLM server says what is wrong
  const type = item.type ?? ("role" in item ? "message" : undefined);
  if (ITEMS.has(type)) return;
  throw invalid("An item is given whole; none can be referred to.", `request.input[${i}]`);
}

function idempotencyKey(session, key) {
  const hash = createHash("sha256").update(JSON.stringify([session.id, key])).digest("hex");
  return `dashboard-${hash}`;
}
