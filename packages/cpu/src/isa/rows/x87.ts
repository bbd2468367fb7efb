/** x87 rows. */
import type { RowSource } from '../row.ts';

export const x87Rows: readonly RowSource[] = [];
