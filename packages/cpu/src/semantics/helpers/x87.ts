/** Helpers of x87, MMX and SSE instructions. */
import type { Helper } from '../helper.ts';
import { fpuStateHelpers } from './fpu-state.ts';
import { sseHelpers } from './sse.ts';
import { x87EnvironmentHelpers } from './x87-environment.ts';
import { x87InstructionHelpers } from './x87-instructions.ts';

export const x87Helpers: Readonly<Record<string, Helper>> = {
  ...fpuStateHelpers,
  ...sseHelpers,
  ...x87InstructionHelpers,
  ...x87EnvironmentHelpers,
};
