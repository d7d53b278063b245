// Streams of events: what is passed through, and what becomes of every way to fail.

import assert from "node:assert/strict";
import { EventEmitter, once } from "node:events";
import { createServer } from "node:http";
import { test } from "node:test";

import { relay } from "../src/relay.js";
import { LIMITS } from "../src/upstream.js";
import * as helpers from "../testing/helpers.js";

const { beginStream, closedUrl, dashboardAt, dashboardFor, errorOf } = helpers;
const { postResponse, promise, REQUEST } = helpers;
const STREAM =
  'data: {"choices":[{"delta":{"content":"ñandú 你好 😀"}}]}\n\n' +
  ": keep-alive\n\n" +
  'data: {"choices":[{"delta":{"content":"\\n\\n"},"finish_reason":"stop"}]}\n\n' +
  "data: [DONE]\n\n";

function errorEvent(text) {
  return JSON.parse(text.trimEnd().split("\n\n").at(-1).slice("data: ".length)).error;
}

test("the key goes to the LLM server, and not to the page", async (t) => {
  const seen = [];
  const script = async (request, response) => {
    seen.push([request.url, request.headers.authorization]);
    if (request.url === "/health") {
      response.end(JSON.stringify({ state: "ready" }));
      return;
    }
    beginStream(response);
    response.end(STREAM);
  };
  const url = await dashboardFor(t, script, { apiKey: "s3cret" });
  const answers = [await fetch(`${url}/api/health`), await postResponse(url)];
  assert.deepEqual(seen, [
    ["/health", "Bearer s3cret"],
    ["/v1/responses", "Bearer s3cret"],
  ]);
  for (const answer of answers) {
    const said = JSON.stringify([...answer.headers]) + (await answer.text());
    assert.ok(!said.includes("s3cret"));
  }
});

for (const size of [1, 2, 3, 7, 64]) {
  test(`a stream in pieces of ${size} bytes arrives byte for byte`, async (t) => {
    const url = await dashboardFor(t, async (request, response) => {
      beginStream(response);
      const bytes = Buffer.from(STREAM);
      for (let i = 0; i < bytes.length; i += size) {
        response.write(bytes.subarray(i, i + size));
        await new Promise(setImmediate);
      }
      response.end();
    });
    const answer = await postResponse(url);
    assert.equal(answer.status, 200);
    assert.equal(answer.headers.get("content-type"), "text/event-stream; charset=utf-8");
    assert.deepEqual(Buffer.from(await answer.arrayBuffer()), Buffer.from(STREAM));
  });
}

test("an event arrives before the next one is sent", async (t) => {
  const goOn = promise();
  const url = await dashboardFor(t, async (request, response) => {
    beginStream(response);
    response.write("data: 1\n\n");
    await goOn.made;
    response.end("data: 2\n\n");
  });
  const answer = await postResponse(url);
  const reader = answer.body.getReader();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "data: 1\n\n");
  goOn.resolve();
  assert.equal(Buffer.from((await reader.read()).value).toString(), "data: 2\n\n");
});

test("the head of a stream arrives before its first event", async (t) => {
  const url = await dashboardFor(t, (request, response) => beginStream(response));
  const answer = await postResponse(url);
  assert.equal(answer.status, 200);
  await answer.body.cancel();
});

test("nobody listens: a 502 that says where", async (t) => {
  const llmUrl = await closedUrl();
  const answer = await postResponse(await dashboardAt(t, llmUrl));
  assert.equal(answer.status, 502);
  const error = await errorOf(answer);
  assert.equal(error.code, "server_unreachable");
  assert.ok(error.message.includes(new URL(llmUrl).origin), error.message);
  assert.ok(error.message.includes("ECONNREFUSED"), error.message);
});

test("a server that hangs up without a word: a 502", async (t) => {
  const url = await dashboardFor(t, (request) => request.socket.destroy());
  const answer = await postResponse(url);
  assert.equal(answer.status, 502);
  assert.equal((await errorOf(answer)).code, "stream_interrupted");
});

test("a browser that stops in the middle of a stream ends the call alone", async (t) => {
  const closed = promise();
  const asked = [];
  const url = await dashboardFor(t, (request, response) => {
    asked.push(`${request.method} ${request.url}`);
    response.on("close", closed.resolve);
    beginStream(response);
    response.write("data: 1\n\n");
  });
  const controller = new AbortController();
  const answer = await postResponse(url, REQUEST, { signal: controller.signal });
  await answer.body.getReader().read();
  controller.abort();
  await closed.made;
  assert.deepEqual(asked, ["POST /v1/responses"]); // and no cancel: the response goes on
});

test("a browser that stops while the request waits ends the call", async (t) => {
  const [arrived, closed] = [promise(), promise()];
  const url = await dashboardFor(t, (request, response) => {
    response.on("close", closed.resolve);
    arrived.resolve();
  });
  const controller = new AbortController();
  const asked = postResponse(url, REQUEST, { signal: controller.signal });
  await arrived.made;
  controller.abort();
  await assert.rejects(asked, { name: "AbortError" });
  await closed.made;
});

test("the stream waits for a browser that reads slowly", async (t) => {
  const goOn = promise();
  const server = createServer(async (request, response) => {
    beginStream(response);
    response.write("data: 1\n\n");
    await goOn.made;
    response.end("data: 2\n\n");
  });
  const llmUrl = new URL(await helpers.listen(t, server));
  const written = [];
  const first = promise();
  const browser = Object.assign(new EventEmitter(), {
    writeHead() {},
    flushHeaders() {},
    end() {},
    write(bytes) {
      written.push(String(bytes));
      first.resolve();
      return false; // as a response does when nobody takes what it has
    },
  });
  const context = { llm: { llmUrl }, limits: LIMITS };
  const relayed = relay(context, browser, "v1/responses", { method: "POST", body: {} });
  await first.made;
  goOn.resolve();
  await new Promise((done) => setTimeout(done, 50));
  assert.deepEqual(written, ["data: 1\n\n"]);
  const drain = setInterval(() => browser.emit("drain"), 5);
  await relayed;
  clearInterval(drain);
  assert.deepEqual(written, ["data: 1\n\n", "data: 2\n\n"]);
});

test("a browser that takes nothing for a while is cut off", async (t) => {
  const closed = promise();
  const script = (request, response) => {
    response.on("close", closed.resolve);
    beginStream(response);
    const more = () => {
      while (response.write(`data: ${"x".repeat(60_000)}\n\n`));
    };
    response.on("drain", more);
    more();
  };
  const url = await dashboardFor(t, script, { limits: { unread: 50 } });
  const answer = await postResponse(url);
  await closed.made;
  await assert.rejects(answer.text());
});

test("the server's refusal comes as it is, with Retry-After", async (t) => {
  const body = {
    error: { message: "Busy.", type: "rate_limit_error", param: null, code: "queue_full" },
  };
  const url = await dashboardFor(t, (request, response) => {
    response.writeHead(429, { "Content-Type": "application/json", "Retry-After": "7" });
    response.end(JSON.stringify(body));
  });
  const answer = await postResponse(url);
  assert.equal(answer.status, 429);
  assert.equal(answer.headers.get("retry-after"), "7");
  assert.deepEqual(await answer.json(), body);
});

for (const [what, status, type, body] of [
  ["a web page with status 404", 404, "text/html", "<h1>Not found</h1>"],
  ["a web page with status 200", 200, "text/html", "<h1>Hello</h1>"],
  ["JSON that is no error", 500, "application/json", '{"detail": "no"}'],
  ["a redirect", 302, "text/plain", ""],
]) {
  test(`${what} is not the LLM server: a 502`, async (t) => {
    const url = await dashboardFor(t, (request, response) => {
      response.writeHead(status, { "Content-Type": type, Location: "/elsewhere" }).end(body);
    });
    const answer = await postResponse(url);
    assert.equal(answer.status, 502);
    assert.equal((await errorOf(answer)).code, "bad_upstream_response");
  });
}

test("a stream that breaks inside an event ends with whole events and an error", async (t) => {
  const url = await dashboardFor(t, (request, response) => {
    beginStream(response);
    response.write('data: 1\n\ndata: {"choi', () => response.destroy());
  });
  const text = await (await postResponse(url)).text();
  assert.ok(text.startsWith("data: 1\n\ndata: {"), text);
  assert.equal(text.trimEnd().split("\n\n").length, 2);
  assert.equal(errorEvent(text).code, "stream_interrupted");
});

test("a stream that falls silent ends with an error, and the call with it", async (t) => {
  const closed = promise();
  const script = (request, response) => {
    response.on("close", closed.resolve);
    beginStream(response);
    response.write("data: 1\n\n");
  };
  const url = await dashboardFor(t, script, { limits: { silence: 50 } });
  const text = await (await postResponse(url)).text();
  assert.equal(errorEvent(text).code, "stream_interrupted");
  await closed.made;
});

test("a server that never answers: a 504, and the call ends", async (t) => {
  const closed = promise();
  const script = (request, response) => response.on("close", closed.resolve);
  const answer = await postResponse(await dashboardFor(t, script, { limits: { headers: 50 } }));
  assert.equal(answer.status, 504);
  assert.equal((await errorOf(answer)).code, "upstream_timeout");
  await closed.made;
});

for (const [what, body, options, status, code] of [
  ["no JSON", "{", {}, 400, "invalid_json"],
  ["a list", "[]", {}, 400, "invalid_json"],
  ["null", "null", {}, 400, "invalid_json"],
  ["a form", "a=b", { headers: { "Content-Type": "text/plain" } }, 415, "unsupported_media_type"],
  ["5 MiB", `"${"x".repeat(5 << 20)}"`, {}, 413, "request_too_large"],
]) {
  test(`a body that is ${what}: a ${status}, and nobody is asked`, async (t) => {
    const answer = await postResponse(await dashboardFor(t), body, options);
    assert.equal(answer.status, status);
    assert.equal((await errorOf(answer)).code, code);
  });
}

test("a browser that goes away while it sends its body does no harm", async (t) => {
  const url = await dashboardFor(t, (request, response) => response.end());
  const { connect } = await import("node:net");
  const socket = connect(new URL(url).port, "127.0.0.1");
  socket.write("POST /api/responses HTTP/1.1\r\nHost: localhost\r\n");
  socket.write("Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{");
  await once(socket, "connect");
  socket.destroy();
  assert.equal((await fetch(url)).status, 200);
});
