/**
 * System time and TSC. System time is the monotonic clock since boot of this host; the TSC is the same clock scaled to
 * `TSC_KHZ`, so that every pCPU agrees and a `vcpu_time_info` written once stays exact.
 */
import type { Core } from '../state/core.ts';

/** 2 GHz: two ticks a nanosecond, so the scale factor 2^31 of `vcpu_time_info` is exact. */
export const TSC_KHZ = 2_000_000;
export const TSC_TO_SYSTEM_MUL = 0x8000_0000;
export const TSC_SHIFT = 0;
const TICKS_PER_NS = 2n;

const tscOf = (systemTimeNs: bigint): bigint => systemTimeNs * TICKS_PER_NS;

/** The TSC of every vCPU now. */
export const readTsc = (core: Core): bigint => tscOf(core.systemTimeNs());
