// Asks for the server's health, often while something is to be seen; knows nothing of the page.

const POLL_MS = { busy: 1_000, ready: 5_000 };
const FINE = new Set(["ready", "sleeping"]);

/** Keeps `signal` at what the server says of itself, while the page is seen; returns a function
 * that asks at once. */
export function followHealth(signal, fetchHealth, isBusy) {
  let timer = null;

  async function poll() {
    clearTimeout(timer);
    const mine = (timer = setTimeout(poll, POLL_MS.ready));
    const found = await fetchHealth();
    if (mine !== timer) return; // asked again in between
    clearTimeout(timer);
    // Who is not reachable is still the model that was there.
    signal.value =
      found.state === "offline" ? { ...signal.value, progress: null, ...found } : found;
    if (document.hidden) return;
    const quiet = FINE.has(found.state) && !isBusy() && !found.active_requests;
    timer = setTimeout(poll, quiet ? POLL_MS.ready : POLL_MS.busy);
  }

  document.addEventListener("visibilitychange", () => {
    if (!document.hidden) poll();
  });
  poll();
  return poll;
}
