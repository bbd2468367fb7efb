/** Waits for what another domain's driver or the toolstack will write. */
import { XenbusState } from '@xenhost/xen-abi';
import type { XenbusStateCode } from '@xenhost/xen-abi';
import type { XenstoreClient } from './client.ts';
import { XenstoreError } from './errors.ts';

export interface WaitOptions {
  readonly signal?: AbortSignal | undefined;
  /** Rejects with ETIMEDOUT after this long. */
  readonly timeoutMs?: number | undefined;
}

/**
 * Waits until the value of a node (undefined while there is none) is as wanted; resolves to what `wanted` made of it: the first
 * that is not undefined. Rejects with XenstoreError: ECANCELED, ETIMEDOUT, or what the watch failed with.
 */
export async function waitForNode<T>(
  xenstore: XenstoreClient,
  path: string,
  wanted: (value: string | undefined) => T | undefined,
  { signal, timeoutMs }: WaitOptions = {},
): Promise<T> {
  const timeout = timeoutMs === undefined ? undefined : AbortSignal.timeout(timeoutMs);
  const ending = AbortSignal.any([signal, timeout].filter((each) => each !== undefined));
  await using watch = xenstore.watch(path, { signal: ending });
  try {
    while (!(await watch.next()).done) {
      const found = wanted(await xenstore.tryRead(path, { signal: ending }));
      if (found !== undefined) return found;
    }
  } catch (error) {
    if (!ending.aborted) throw error;
  }
  if (timeout?.aborted) throw new XenstoreError('ETIMEDOUT', `WATCH (${timeoutMs ?? 0} ms)`, path);
  throw new XenstoreError(ending.aborted ? 'ECANCELED' : 'ECONNRESET', 'WATCH', path, { cause: ending.reason });
}

/**
 * Waits until the `state` node of a device's end (`<device directory>/state`) is one of `states`; resolves to it. A node that is
 * missing is Unknown.
 */
export function waitForState(
  xenstore: XenstoreClient,
  path: string,
  states: readonly XenbusStateCode[],
  options: WaitOptions = {},
): Promise<XenbusStateCode> {
  const wanted = new Map<number, XenbusStateCode>(states.map((state) => [state, state]));
  return waitForNode(xenstore, path, (value) => wanted.get(Number(value ?? XenbusState.Unknown)), options);
}
