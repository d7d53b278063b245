// `npm start`: reads the settings, listens, leaves on SIGINT and SIGTERM.

import process from "node:process";

import { ConfigError, readConfig } from "./src/config.js";
import { createDashboard } from "./src/dashboard.js";
import { inUrl, isEverywhere, ownAddresses } from "./src/guard.js";
import { Sampler } from "./src/metrics.js";
import { missingPackages } from "./src/vendor.js";

function main() {
  if (missingPackages().length > 0) {
    throw new ConfigError("packages of the page are missing. In the folder dashboard, run: npm ci");
  }
  const settings = readConfig(process.env);
  const { host, port, llmUrl } = settings;
  const url = (name) => `http://${name}:${server.address().port}`;
  const sampler = new Sampler(settings);
  const server = createDashboard(settings, {}, sampler);
  server.on("error", (error) => {
    const setting = error.code === "EADDRINUSE" || error.code === "EACCES" ? "PORT" : "HOST";
    const place = `${inUrl(host)}:${port}`;
    fail(`cannot listen on ${place} (${error.code}). ${setting} chooses another.`);
  });
  server.listen(port, host, () => {
    console.log(`dashboard on ${url(inUrl(host))} for ${llmUrl.href}`);
    const others = isEverywhere(host) ? ownAddresses(host).map(url) : [];
    if (others.length > 0) console.log(`other machines open ${others.join(" or ")}`);
    sampler.start();
  });
  for (const signal of ["SIGINT", "SIGTERM"]) {
    process.on(signal, () => {
      server.close(() => process.exit(0));
      server.closeAllConnections?.(); // Node 18.2
      setTimeout(() => process.exit(0), 500).unref();
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
