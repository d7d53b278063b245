// The settings: defaults, and a sentence for each that cannot be used.

import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";

import { ConfigError, readConfig } from "../src/config.js";

test("settings have defaults, and LLM_URL may be what OpenAI's clients get", () => {
  const { host, port, allowedHosts, password, llmUrl, apiKey } = readConfig({});
  assert.deepEqual([host, port, allowedHosts, password], ["127.0.0.1", 3000, [], ""]);
  assert.equal(llmUrl.href, "http://127.0.0.1:8005/");
  assert.equal(apiKey, "");
  assert.equal(readConfig({ LLM_API_KEY: " first , second" }).apiKey, "first");
  for (const [text, href] of [
    ["http://10.0.0.5:9000", "http://10.0.0.5:9000/"],
    ["http://127.0.0.1:8005/v1", "http://127.0.0.1:8005/"],
    ["http://127.0.0.1:8005/v1/", "http://127.0.0.1:8005/"],
    ["https://box.local/llm", "https://box.local/llm/"],
    ["https://box.local/llm/v1", "https://box.local/llm/"],
  ]) {
    assert.equal(readConfig({ LLM_URL: text }).llmUrl.href, href);
  }
});

test("a setting that cannot be used is named", () => {
  for (const [name, text] of [
    ["PORT", "http"],
    ["PORT", "65536"],
    ["PORT", "-1"],
    ["PORT", "1e3"],
    ["HOST", "a b"],
    ["HOST", "http://box.lan"],
    ["LLM_URL", "127.0.0.1:8005"],
    ["LLM_URL", "localhost"],
    ["LLM_URL", "ftp://127.0.0.1"],
    ["LLM_URL", "http://user:word@127.0.0.1"],
    ["LLM_URL", "http://127.0.0.1/?a=b"],
  ]) {
    assert.throws(
      () => readConfig({ [name]: text }),
      (error) => error instanceof ConfigError && error.message.startsWith(`${name} is "${text}"`),
    );
  }
  // A key is in no message.
  for (const text of ["two words", "señal"]) {
    assert.throws(
      () => readConfig({ LLM_API_KEY: text }),
      (error) => error.message.startsWith("LLM_API_KEY has") && !error.message.includes(text),
    );
  }
});

function refused(environment, words) {
  assert.throws(
    () => readConfig(environment),
    (error) => error instanceof ConfigError && words.test(error.message),
  );
}

test("a host that other machines reach needs a password", () => {
  const password = "12345678";
  for (const host of ["0.0.0.0", "::", "[::]", "192.168.1.2", "box.lan"]) {
    refused({ HOST: host }, /: set DASHBOARD_PASSWORD or DASHBOARD_PASSWORD_FILE to a password/);
    const found = readConfig({ HOST: host, DASHBOARD_PASSWORD: password });
    assert.deepEqual([found.host, found.password], [host === "[::]" ? "::" : host, password]);
  }
  for (const host of ["127.0.0.2", "localhost", "::1"]) {
    assert.equal(readConfig({ HOST: host }).password, "");
  }
});

test("a password comes from a variable or a file, and is no short one", (t) => {
  const folder = mkdtempSync(join(tmpdir(), "dashboard-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "password");
  writeFileSync(file, "a long password \n");
  assert.equal(readConfig({ DASHBOARD_PASSWORD_FILE: file }).password, "a long password ");
  refused({ DASHBOARD_PASSWORD_FILE: file, DASHBOARD_PASSWORD: "12345678" }, /not both/);
  refused({ DASHBOARD_PASSWORD: "1234567" }, /fewer than 8 characters/);
  writeFileSync(file, "\n");
  refused({ DASHBOARD_PASSWORD_FILE: file }, /fewer than 8 characters/);
  refused({ DASHBOARD_PASSWORD_FILE: `${file}-not` }, /cannot be read \(ENOENT\)/);
});

test("further names are hosts, with or without a port", () => {
  const hosts = (text) => readConfig({ DASHBOARD_ALLOWED_HOSTS: text }).allowedHosts;
  assert.deepEqual(hosts(" Box.lan , ai.example:8443,[fd00::1]:3000,"), [
    "box.lan",
    "ai.example:8443",
    "[fd00::1]:3000",
  ]);
  for (const text of ["http://box.lan", "box.lan/path", "user@box.lan", "box.lan:port", "*"]) {
    refused({ DASHBOARD_ALLOWED_HOSTS: text }, /^DASHBOARD_ALLOWED_HOSTS has "/);
  }
});
