/** Time in a browser: one origin for all threads of a page, whatever their own. */
import type { Clock } from '@xenhost/base';

const originNs = BigInt(Math.round(performance.timeOrigin * 1e3)) * 1000n;
const nowNs = (): bigint => originNs + BigInt(Math.round(performance.now() * 1e6));

export const browserClock: Clock = { monotonicNs: nowNs, wallNs: nowNs };
