// Bodies and answers of the dashboard's own HTTP: JSON in, JSON and errors out. Knows no route.

import { invalid, Problem } from "./problem.js";

export const MAX_BODY_BYTES = 4 * 1024 * 1024; // what the LLM server takes

/** Throws Problem for a method that is not one of `methods`. */
export function allow(request, ...methods) {
  if (methods.includes(request.method)) return;
  const message = `This takes ${methods.join(" and ")}, not ${request.method}.`;
  throw new Problem(405, "method_not_allowed", message, { headers: { Allow: methods.join(", ") } });
}

/** The object in a request's body. Asking for JSON's type keeps other sites' forms out. */
export async function readJson(request, mostBytes = MAX_BODY_BYTES) {
  const type = (request.headers["content-type"] ?? "").split(";", 1)[0].trim().toLowerCase();
  if (type !== "application/json") {
    throw new Problem(415, "unsupported_media_type", "The body must be application/json.");
  }
  let body;
  try {
    body = JSON.parse(await readText(request, mostBytes));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error; // undefined is refused below
  }
  if (!isObject(body)) throw invalid("The body must be a JSON object.", null, "invalid_json");
  return body;
}

async function readText(request, mostBytes) {
  const chunks = [];
  let size = 0;
  for await (const chunk of request) {
    size += chunk.length;
    if (size <= mostBytes) chunks.push(chunk); // the rest is read, as an answer needs that
    if (size > 4 * MAX_BODY_BYTES) break;
  }
  if (size > mostBytes) {
    throw new Problem(413, "request_too_large", `The body is larger than ${mostBytes} bytes.`);
  }
  return Buffer.concat(chunks).toString("utf8");
}

export function isObject(value) {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

export function sendJson(response, status, body, headers = {}) {
  const own = { "Content-Type": "application/json", "Cache-Control": "no-store" };
  response.writeHead(status, { ...own, ...headers });
  response.end(JSON.stringify(body));
}

/** Ends a request that failed. What is no Problem is the dashboard's own error, and logged. */
export function sendProblem(request, response, error) {
  if (response.destroyed || response.headersSent) {
    response.destroy();
    return;
  }
  let problem = error;
  if (!(error instanceof Problem)) {
    console.error(`dashboard: ${request.method} ${request.url} failed:`, error);
    problem = new Problem(500, "internal_error", "The dashboard made an error; its log has it.");
  }
  // A body that was not read to its end would be taken for the next request.
  if (!request.complete) response.setHeader("Connection", "close");
  sendJson(response, problem.status, problem.body(), problem.headers);
}
