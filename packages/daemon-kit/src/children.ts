import { readFileSync } from 'node:fs';

/** The processes that a process has started and that have not ended (proc(5), `children` of its first thread); none of one that is gone. */
export function childrenOf(pid: number): readonly number[] {
  try {
    return readFileSync(`/proc/${pid}/task/${pid}/children`, 'latin1').split(' ').filter(Boolean).map(Number);
  } catch {
    return [];
  }
}
