/** MMX and SSE rows. */
import type { RowSource } from '../row.ts';

export const simdRows: readonly RowSource[] = [];
