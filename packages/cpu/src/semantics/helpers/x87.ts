/** Helpers of x87 instructions and of FXSAVE and its kin. */
import type { Helper } from '../helper.ts';
import { fpuStateHelpers } from './fpu-state.ts';
import { sseHelpers } from './sse.ts';

export const x87Helpers: Readonly<Record<string, Helper>> = { ...fpuStateHelpers, ...sseHelpers };
