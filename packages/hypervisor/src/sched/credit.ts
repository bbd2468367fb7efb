/**
 * The credit scheduler's accounting: how CPU time turns into priorities. Shares follow weights of domains, caps bound
 * them (in percent of one pCPU). Answers to Xen's `sched/credit.c`; the choice of what runs is in `scheduler.ts`.
 */
import type { View } from '@xenhost/base';
import type { VcpuLayout } from '../state/records.ts';
import { SchedPriority, SchedVcpuFlag } from '../state/records.ts';

export const CREDITS_PER_MS = 10;
export const TICK_MS = 10;
/** Accounting period and default time slice. */
export const TSLICE_MS = 30;
export const CREDITS_PER_TSLICE = CREDITS_PER_MS * TSLICE_MS;
/** Debt beyond is forgotten, so that nobody starves for what it ran when nobody else wanted to. Twice Xen's: weights of 1 to 16 hold. */
export const MAX_DEBT = 2 * CREDITS_PER_TSLICE;
export const DEFAULT_RATELIMIT_US = 1000;
export const DEFAULT_WEIGHT = 256;

const NS_PER_CREDIT = 1_000_000 / CREDITS_PER_MS;

export type VcpuView = View<(typeof VcpuLayout)['fields']>;

/** Charges a vCPU for time on a pCPU. What is less than a credit is kept for the next time: short runs are not free. */
export function burnCredits(v: VcpuView, ranNs: bigint): void {
  const total = Number(ranNs) + v.creditRemainderNs;
  const credits = Math.floor(total / NS_PER_CREDIT);
  v.credit -= credits;
  v.creditRemainderNs = total - credits * NS_PER_CREDIT;
}

/** One domain that has runnable vCPUs, for `distribute`. */
export interface ShareClaim {
  readonly weight: number;
  /** Percent of one pCPU, 0 for no cap. */
  readonly cap: number;
  readonly vcpus: readonly VcpuView[];
}

/**
 * Credits for one period, by claim: each gets its weighted share, but no more than its vCPUs or its cap can use; what
 * it cannot use goes to the others.
 */
export function shares(claims: readonly ShareClaim[], nrPcpus: number): number[] {
  const given = claims.map(() => 0);
  let open = claims.map((claim, i) => ({ claim, i }));
  let left = nrPcpus * CREDITS_PER_TSLICE;
  while (open.length > 0 && left > 0) {
    const weights = open.reduce((sum, { claim }) => sum + claim.weight * claim.vcpus.length, 0);
    const satisfied = open.filter(({ claim }) => fair(claim, left, weights) >= peak(claim));
    const settle = satisfied.length > 0 ? satisfied : open;
    let used = 0;
    for (const { claim, i } of settle) {
      given[i] = Math.ceil(Math.min(fair(claim, left, weights), peak(claim)));
      used += given[i] ?? 0;
    }
    left -= used;
    open = open.filter((entry) => !settle.includes(entry));
  }
  return given;
}

const fair = (claim: ShareClaim, credits: number, weights: number): number =>
  (credits * claim.weight * claim.vcpus.length) / weights;

function peak(claim: ShareClaim): number {
  const all = claim.vcpus.length * CREDITS_PER_TSLICE;
  return claim.cap === 0 ? all : Math.min(all, capCredits(claim.cap));
}

const capCredits = (cap: number): number => Math.ceil((cap * CREDITS_PER_TSLICE) / 100);

/**
 * Adds the credits of the time since the last accounting, in `periods` of `TSLICE_MS`, and sets priorities: more than one
 * when this machine had other things to do, for what ran then was charged for all of it. Returns the vCPUs whose parking
 * changed: they were capped out, or may run again.
 */
export function account(
  claims: readonly ShareClaim[],
  nrPcpus: number,
  periods = 1,
): { park: VcpuView[]; unpark: VcpuView[] } {
  const park: VcpuView[] = [];
  const unpark: VcpuView[] = [];
  shares(claims, nrPcpus).forEach((credits, i) => {
    const claim = claims[i];
    if (!claim) return;
    const each = Math.ceil((credits * periods) / claim.vcpus.length);
    const capEach = Math.ceil(capCredits(claim.cap) / claim.vcpus.length);
    for (const v of claim.vcpus) {
      v.credit += each;
      const bounds = Math.max(periods, 1);
      const parked = (v.schedFlags & SchedVcpuFlag.parked) !== 0;
      if (v.credit < 0) {
        v.priority = SchedPriority.over;
        if (claim.cap !== 0 && v.credit < -capEach && !parked) park.push(v);
        v.credit = Math.max(v.credit, -Math.round(MAX_DEBT * bounds));
      } else {
        v.priority = SchedPriority.under;
        if (parked) unpark.push(v);
        if (v.credit > CREDITS_PER_TSLICE * bounds) v.credit = Math.round((CREDITS_PER_TSLICE * bounds) / 2);
      }
    }
  });
  return { park, unpark };
}
