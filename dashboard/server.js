// `npm start`: reads the settings, listens, leaves on SIGINT and SIGTERM.

import process from "node:process";

import { ConfigError, readConfig } from "./src/config.js";
import { createDashboard } from "./src/dashboard.js";

const HOST = "127.0.0.1"; // there is no login, so no other machine may reach it

function main() {
  const { port, llmUrl, apiKey } = readConfig(process.env);
  const server = createDashboard({ llmUrl, apiKey });
  server.on("error", (error) => {
    fail(`cannot listen on ${HOST}:${port} (${error.code}). PORT chooses another port.`);
  });
  server.listen(port, HOST, () => {
    console.log(`dashboard on http://${HOST}:${server.address().port} for ${llmUrl.href}`);
  });
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => {
      server.close(() => process.exit(0));
      server.closeAllConnections();
    });
  }
}

function fail(sentence) {
  console.error(`dashboard: ${sentence}`);
  process.exit(1);
}

try {
  main();
} catch (error) {
  if (!(error instanceof ConfigError)) throw error;
  fail(error.message);
}
