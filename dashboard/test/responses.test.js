// /api/responses and /api/tokens: what the LLM server is asked for, and who gets which response.

import assert from "node:assert/strict";
import { test } from "node:test";

import * as helpers from "../testing/helpers.js";

const { beginStream, bodyOf, browserAt, dashboardFor, errorOf, postResponse, sendJson } = helpers;
const ID = "resp_0123abcd";
const REFUSAL = {
  error: { message: "Busy.", type: "rate_limit_error", param: null, code: "queue_full" },
};

/** A server that has the response ID, of whoever asked for one last; `asked` has its requests. */
function server() {
  const asked = [];
  let user;
  const script = async (request, response) => {
    const { method, url } = request;
    asked.push(`${method} ${url}`);
    if (method === "POST" && url === "/v1/responses") {
      ({ user } = await bodyOf(request));
      beginStream(response);
      response.end("event: response.created\ndata: 1\n\n");
    } else if (method === "GET" && url.includes("?")) {
      beginStream(response);
      response.end("event: response.completed\ndata: 2\n\n");
    } else {
      sendJson(response, { id: ID, user, deleted: method === "DELETE" });
    }
  };
  return { script, asked };
}

async function twoBrowsers(t) {
  const { script, asked } = server();
  const url = await dashboardFor(t, script);
  const [owner, other] = [browserAt(url), browserAt(url)];
  await other.ask("GET", "/");
  await owner.ask("GET", "/");
  assert.notEqual(owner.cookie, other.cookie);
  await (await owner.ask("POST", "/api/responses", helpers.REQUEST)).text();
  asked.length = 0;
  return { owner, other, asked };
}

test("a response is made in the background, for the session, under its key", async (t) => {
  const seen = [];
  const url = await dashboardFor(t, async (request, response) => {
    const key = request.headers["idempotency-key"];
    seen.push([request.method, request.url, key, await bodyOf(request)]);
    beginStream(response);
    response.end();
  });
  const browser = browserAt(url);
  const request = { input: "¿Qué?", temperature: 0.5, continue_final_message: true };
  for (const key of ["a", "a", "b"]) {
    const answer = await browser.ask("POST", "/api/responses", { key, request });
    assert.equal(answer.status, 200);
  }
  const [method, path, key, body] = seen[0];
  const { user, ...fields } = body;
  assert.deepEqual([method, path], ["POST", "/v1/responses"]);
  assert.deepEqual(fields, {
    ...request,
    background: true,
    return_progress: true,
    store: true,
    stream: true,
  });
  assert.match(user, /^dashboard-[0-9a-f]{24}$/);
  assert.match(key, /^dashboard-[0-9a-f]{64}$/);
  assert.deepEqual(seen.map(([, , key]) => key === seen[0][2]), [true, true, false]);
  await postResponse(url, { key: "a", request });
  assert.notEqual(seen[3][2], key);
  assert.notEqual(seen[3][3].user, user);
  const secret = browser.cookie.split("=")[1];
  assert.ok(secret.length > 20);
  assert.ok(!JSON.stringify(seen).includes(secret));
});

for (const [what, request, param] of [
  ["the user", { user: "me" }, "request.user"],
  ["the background", { background: false }, "request.background"],
  ["the storing", { store: false }, "request.store"],
  ["the stream", { stream: false }, "request.stream"],
  ["the response before", { previous_response_id: ID }, "request.previous_response_id"],
  ["a field of no name here", JSON.parse('{"__proto__": 1}'), "request.__proto__"],
  ["an item by its id", { input: [{ role: "user" }, { id: "msg_1" }] }, "request.input[1]"],
  ["an item by its type", { input: [{ type: "item_reference", id: "a" }] }, "request.input[0]"],
  ["an item of a null type", { input: [{ type: null, id: "msg_1" }] }, "request.input[0]"],
]) {
  test(`a page cannot choose ${what}`, async (t) => {
    const answer = await postResponse(await dashboardFor(t), { key: "k", request });
    assert.equal(answer.status, 400);
    assert.equal((await errorOf(answer)).param, param);
  });
}

for (const [body, param] of [
  [{ request: {} }, "key"],
  [{ key: "", request: {} }, "key"],
  [{ key: 1, request: {} }, "key"],
  [{ key: "k".repeat(201), request: {} }, "key"],
  [{ key: "k" }, "request"],
  [{ key: "k", request: [] }, "request"],
  [{ key: "k", request: {}, user: "me" }, "user"],
]) {
  test(`a body of ${JSON.stringify(body).slice(0, 40)}: a 400 for ${param}`, async (t) => {
    const answer = await postResponse(await dashboardFor(t), body);
    assert.equal(answer.status, 400);
    assert.equal((await errorOf(answer)).param, param);
  });
}

for (const [method, path, upstream, said] of [
  ["GET", "", [], { deleted: false }],
  ["GET", "/events", [`GET /v1/responses/${ID}?stream=true`], null],
  ["GET", "/events?after=7", [`GET /v1/responses/${ID}?stream=true&starting_after=7`], null],
  ["POST", "/cancel", [`POST /v1/responses/${ID}/cancel`], { deleted: false }],
  ["DELETE", "", [`DELETE /v1/responses/${ID}`], { deleted: true }],
]) {
  test(`${method} ${path}: for the response's own session, and no other`, async (t) => {
    const { owner, other, asked } = await twoBrowsers(t);
    const look = `GET /v1/responses/${ID}`;
    const refused = await other.ask(method, `/api/responses/${ID}${path}`);
    assert.equal(refused.status, 404);
    assert.deepEqual(await refused.json(), {
      error: {
        message: `Response with id '${ID}' not found.`,
        type: "invalid_request_error",
        param: "id",
        code: "response_not_found",
      },
    });
    assert.deepEqual(asked, [look]);
    const answer = await owner.ask(method, `/api/responses/${ID}${path}`);
    assert.equal(answer.status, 200);
    assert.deepEqual(asked, [look, look, ...upstream]);
    const text = await answer.text();
    if (said === null) assert.equal(text, "event: response.completed\ndata: 2\n\n");
    else assert.equal(JSON.parse(text).deleted, said.deleted);
  });
}

test("a response that names nobody is nobody's", async (t) => {
  const url = await dashboardFor(t, (request, response) => sendJson(response, { user: null }));
  assert.equal((await browserAt(url).ask("GET", `/api/responses/${ID}`)).status, 404);
});

test("an id that can be none is not looked for", async (t) => {
  const url = await dashboardFor(t);
  for (const id of ["a%2fb", "..%2fhealth", "a.b", "x".repeat(129)]) {
    for (const part of ["", "/events"]) {
      const answer = await browserAt(url).ask("GET", `/api/responses/${id}${part}`);
      assert.equal(answer.status, 404);
      assert.equal((await errorOf(answer)).code, "response_not_found");
    }
  }
});

test("a number of an event that is none: a 400", async (t) => {
  for (const after of ["", "-1", "1.5", "x"]) {
    const url = await dashboardFor(t);
    const answer = await browserAt(url).ask("GET", `/api/responses/${ID}/events?after=${after}`);
    assert.equal(answer.status, 400);
    assert.equal((await errorOf(answer)).param, "after");
  }
});

test("a refusal comes as it is, also where it is about whose the response is", async (t) => {
  const url = await dashboardFor(t, (request, response) => {
    response.setHeader("Retry-After", "3");
    sendJson(response, REFUSAL, 429);
  });
  for (const [method, path, body] of [
    ["POST", "", helpers.REQUEST],
    ["GET", `/${ID}/events`],
    ["GET", `/${ID}`],
    ["POST", `/${ID}/cancel`],
    ["DELETE", `/${ID}`],
  ]) {
    const answer = await browserAt(url).ask(method, `/api/responses${path}`, body);
    assert.equal(answer.status, 429);
    assert.equal(answer.headers.get("retry-after"), "3");
    assert.deepEqual(await answer.json(), REFUSAL);
  }
});

test("tokens are counted", async (t) => {
  const url = await dashboardFor(t, async (request, response) => {
    const { text } = await bodyOf(request);
    sendJson(response, { tokens: [], count: request.url === "/v1/tokenize" ? text.length : -1 });
  });
  const browser = browserAt(url);
  const answer = await browser.ask("POST", "/api/tokens", { content: "señal" });
  assert.deepEqual(await answer.json(), { count: 5 });
  const wrong = await browser.ask("POST", "/api/tokens", { content: 5 });
  assert.equal(wrong.status, 400);
});
