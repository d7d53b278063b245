// Sessions and the password: who is let in, for how long, and after how many guesses.

import assert from "node:assert/strict";
import { test } from "node:test";

import { Guesses } from "../src/guesses.js";
import { Password } from "../src/password.js";
import { Sessions } from "../src/sessions.js";
import { SignIn } from "../src/sign-in.js";
import { browserAt, dashboardFor, errorOf } from "../testing/helpers.js";

const PASSWORD = "correct horse ñ";
const DAY = 24 * 60 * 60 * 1000;
const API = [
  ["GET", "/api/health"],
  ["GET", "/api/metrics"],
  ["POST", "/api/tokens", { content: "x" }],
  ["POST", "/api/responses", { key: "k", request: { input: "x" } }],
  ["GET", "/api/responses/resp_1"],
  ["GET", "/api/responses/resp_1/events"],
  ["POST", "/api/responses/resp_1/cancel"],
  ["DELETE", "/api/responses/resp_1"],
  ["GET", "/api/no-such-route"],
];

function signIn(browser, password = PASSWORD) {
  return browser.ask("POST", "/api/session", { password });
}

async function stateOf(browser) {
  return (await browser.ask("GET", "/api/session")).json();
}

test("without a password each browser is itself from its first page on", async (t) => {
  const url = await dashboardFor(t);
  const browser = browserAt(url);
  assert.deepEqual(await stateOf(browser), { password: false, signed_in: true });
  const first = await browser.ask("GET", "/");
  const { port } = new URL(url);
  const [pair, ...attributes] = first.headers.get("set-cookie").split("; ");
  assert.match(pair, new RegExp(`^sheily-dashboard-${port}=[A-Za-z0-9_-]{22}$`));
  assert.deepEqual(attributes, ["Path=/", "Max-Age=2592000", "HttpOnly", "SameSite=Strict"]);
  const cookie = browser.cookie;
  await browser.ask("GET", "/");
  assert.equal(browser.cookie, cookie);
  const login = await browser.ask("GET", "/login.html");
  assert.deepEqual([login.status, login.headers.get("location")], [302, "/"]);
});

test("with a password nothing but the login page and files is given", async (t) => {
  const browser = browserAt(await dashboardFor(t, undefined, { password: PASSWORD }));
  assert.deepEqual(await stateOf(browser), { password: true, signed_in: false });
  for (const [method, path, body] of API) {
    const answer = await browser.ask(method, path, body);
    assert.equal(answer.status, 401, path);
    assert.equal((await errorOf(answer)).code, "sign_in_needed");
  }
  for (const [path, place] of [
    ["/", "/login.html"],
    ["/index.html", "/login.html"],
  ]) {
    const answer = await browser.ask("GET", path);
    assert.deepEqual([answer.status, answer.headers.get("location")], [302, place]);
  }
  for (const path of ["/login.html", "/login/main.js", "/css/base.css", "/vendor/preact.js"]) {
    assert.equal((await browser.ask("GET", path)).status, 200, path);
  }
  assert.equal(browser.cookie, "");
});

test("the right password lets in, and signing out ends it", async (t) => {
  const browser = browserAt(await dashboardFor(t, undefined, { password: PASSWORD }));
  const wrong = await signIn(browser, "correct horse n");
  assert.equal(wrong.status, 401);
  assert.equal((await errorOf(wrong)).code, "wrong_password");
  assert.equal(browser.cookie, "");
  // The same letters, as another keyboard writes them.
  assert.equal((await signIn(browser, PASSWORD.normalize("NFD"))).status, 204);
  assert.deepEqual(await stateOf(browser), { password: true, signed_in: true });
  assert.equal((await browser.ask("GET", "/")).status, 200);
  assert.equal((await browser.ask("GET", "/login.html")).headers.get("location"), "/");
  assert.equal((await browser.ask("GET", "/api/metrics")).status, 200);
  const out = await browser.ask("DELETE", "/api/session");
  assert.equal(out.status, 204);
  assert.match(out.headers.get("set-cookie"), /=; Path=\/; Max-Age=0;/);
  assert.equal((await browser.ask("GET", "/api/metrics")).status, 401);
});

for (const [body, status] of [
  [{}, 400],
  [{ password: 5 }, 400],
  [{ password: "x".repeat(5000) }, 413],
  ["{", 400],
]) {
  test(`a sign-in of ${JSON.stringify(body).slice(0, 30)}: a ${status}`, async (t) => {
    const browser = browserAt(await dashboardFor(t, undefined, { password: PASSWORD }));
    assert.equal((await browser.ask("POST", "/api/session", body)).status, status);
  });
}

test("after five wrong passwords the next one has to wait, the right one too", async (t) => {
  const now = () => 1_800_000_000_000; // no wait ends by itself, however busy the machine is
  const browser = browserAt(await dashboardFor(t, undefined, { password: PASSWORD, now }));
  const together = await Promise.all([..."abcdef"].map((guess) => signIn(browser, guess)));
  assert.deepEqual(together.map(({ status }) => status).sort(), [401, 401, 401, 401, 401, 429]);
  const answer = await signIn(browser);
  assert.equal(answer.status, 429);
  assert.equal((await errorOf(answer)).code, "too_many_guesses");
  assert.ok(Number(answer.headers.get("retry-after")) >= 1);
  assert.equal(browser.cookie, "");
});

test("the page that was wanted is remembered, and no other place", () => {
  const signIn = new SignIn(PASSWORD);
  const request = { socket: { localPort: 3000 }, headers: {} };
  assert.equal(signIn.elsewhere("/metrics.html", request), "/login.html?to=/metrics.html");
  assert.equal(signIn.elsewhere("/", request), "/login.html");
});

test("guesses are compared one by one, and no more than eight wait", async () => {
  const password = new Password(PASSWORD);
  const compared = [];
  const guesses = [..."abcdefg", PASSWORD];
  const results = guesses.map(async (guess) => {
    assert.equal(password.busy, false);
    const right = await password.is(guess);
    compared.push(guess);
    return right;
  });
  assert.equal(password.busy, true);
  assert.deepEqual(await Promise.all(results), guesses.map((guess) => guess === PASSWORD));
  assert.deepEqual(compared, guesses);
  assert.equal(password.busy, false);
});

/** How many milliseconds each of `n` guesses at once has to wait. */
function waits(guesses, address, n) {
  return Array.from({ length: n }, () => guesses.take(address));
}

test("each guess behind the burst waits twice as long, up to a quarter of an hour", () => {
  let now = 1e12;
  const guesses = new Guesses(() => now);
  assert.deepEqual(waits(guesses, "10.0.0.1", 6), [0, 0, 0, 0, 0, 2000]);
  const grown = [];
  for (let i = 0; i < 11; i++) {
    const wait = guesses.take("10.0.0.1");
    grown.push(wait / 1000);
    now += wait;
    assert.equal(guesses.take("10.0.0.1"), 0);
  }
  assert.deepEqual(grown, [2, 4, 8, 16, 32, 64, 128, 256, 512, 900, 900]);
  assert.equal(guesses.take("10.0.0.2"), 0);
  now += 60 * 60 * 1000 + 1;
  assert.deepEqual(waits(guesses, "10.0.0.1", 6), [0, 0, 0, 0, 0, 2000]);
});

test("a right password is no guess", () => {
  const guesses = new Guesses(() => 1e12);
  for (let i = 0; i < 100; i++) {
    assert.equal(guesses.take("10.0.0.1"), 0);
    guesses.forgive("10.0.0.1");
  }
});

test("thirty guesses are the most from all addresses, which are not kept without end", () => {
  let now = 1e12;
  const guesses = new Guesses(() => now);
  for (let i = 0; i < 30; i++) assert.equal(guesses.take(`10.0.0.${i}`), 0);
  assert.equal(guesses.take("10.0.0.99"), 2000);
  for (let i = 0; i < 2000; i++) {
    now += 60_000;
    assert.equal(guesses.take(`10.1.${i >> 8}.${i & 255}`), 0);
    assert.equal(guesses.take("10.0.0.99"), Math.min(2000 * 2 ** (i + 1), 60_000));
  }
  assert.equal(guesses.addresses.size, 1000);
});

test("an address of IPv6 counts with its network, and one of IPv4 as itself", () => {
  const guesses = new Guesses(() => 1e12);
  const one = ["2001:db8::1", "2001:db8:0:0:5::", "2001:db8::9:9", "2001:db8:0:0:1:2:3:4"];
  for (const address of one) assert.equal(guesses.take(address), 0);
  assert.equal(guesses.addresses.size, 1);
  const three = ["::ffff:10.0.0.1", "10.0.0.1", "::1", "fe80::1%eth0"];
  for (const address of three) assert.equal(guesses.take(address), 0);
  assert.equal(guesses.addresses.size, 4);
});

/** What a session's cookie is to another process, later, with another key or another port. */
function cookieOf(sessions, port, session) {
  let header;
  const response = { setHeader: (name, value) => (header = value) };
  sessions.give({ socket: { localPort: port }, headers: {} }, response, session);
  return header.split(";", 1)[0];
}

function sessionOf(sessions, port, cookie) {
  return sessions.of({ socket: { localPort: port }, headers: { cookie } });
}

test("a backend that starts again knows its sessions; a new password ends them", () => {
  let now = 1e12;
  const clock = () => now;
  const [key, other] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
  const cookie = cookieOf(new Sessions(key, clock), 3000);
  const again = new Sessions(key, clock);
  const session = sessionOf(again, 3000, `a=b; ${cookie}; c=d`);
  assert.match(session.user, /^dashboard-[0-9a-f]{24}$/);
  assert.equal(session.stale, false);
  assert.equal(sessionOf(new Sessions(other, clock), 3000, cookie), undefined);
  assert.equal(sessionOf(again, 3001, cookie), undefined);
  now += 2 * DAY;
  const old = sessionOf(again, 3000, cookie);
  assert.equal(old.stale, true);
  const renewed = cookieOf(again, 3000, old);
  now += 29 * DAY;
  assert.equal(sessionOf(again, 3000, cookie), undefined);
  assert.equal(sessionOf(again, 3000, renewed).id, session.id);
});

test("a cookie that was changed, or made up, is none", () => {
  const sessions = new Sessions(Buffer.alloc(32, 1), () => 1e12);
  const cookie = cookieOf(sessions, 3000);
  assert.ok(sessionOf(sessions, 3000, cookie));
  const [name, value] = cookie.split("=");
  const [id, issued, signature] = value.split(".");
  for (const other of [
    id,
    `${id}.${issued}`,
    `${id}.${Number(issued) + 1}.${signature}`,
    `${"A".repeat(22)}.${issued}.${signature}`,
    `${id}.${issued}.${"A".repeat(43)}`,
    `${id}.${issued}.${signature}x`,
    "",
  ]) {
    assert.equal(sessionOf(sessions, 3000, `${name}=${other}`), undefined, other);
  }
  const open = new Sessions();
  assert.equal(sessionOf(open, 3000, `${name}=short`), undefined);
  assert.equal(sessionOf(open, 3000, `${name}=${id}`).id, id);
});

test("signing in again goes on with the same session", async (t) => {
  const browser = browserAt(await dashboardFor(t, undefined, { password: PASSWORD }));
  await signIn(browser);
  const [id] = browser.cookie.split(".");
  for (let i = 0; i < 6; i++) assert.equal((await signIn(browser)).status, 204); // no guesses
  assert.equal(browser.cookie.split(".")[0], id);
});
