/** Polling for what has no event to wait for, such as what another process shows. */

const POLL_MS = 50;
const TIMEOUT_MS = 30_000;

/** Resolves when `condition` gives true; rejects, saying `what`, after `timeoutMs`. */
export async function until(
  what: string,
  condition: () => Promise<boolean>,
  timeoutMs: number = TIMEOUT_MS,
): Promise<void> {
  for (const deadline = Date.now() + timeoutMs; !(await condition());) {
    if (Date.now() > deadline) throw new Error(`not within ${timeoutMs} ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
}
