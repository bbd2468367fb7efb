/** Sets of pCPUs: as text of configs ("0-3,^1"), as lists, and as the hypervisor's bitmaps. */

/** Highest pCPU number + 1 that a list may name. */
export const MAX_PCPUS = 4096;

/** "0-3,^1,5" as numbers; later words undo earlier ones. `undefined` when the text is malformed. */
export function parseCpuList(text: string): number[] | undefined {
  const chosen = new Set<number>();
  for (const word of text.split(',').map((part) => part.trim())) {
    if (word === '') continue;
    const match = /^(\^)?(\d{1,4})(?:-(\d{1,4}))?$/.exec(word);
    if (!match) return undefined;
    const first = Number(match[2]);
    const last = match[3] === undefined ? first : Number(match[3]);
    if (last >= MAX_PCPUS) return undefined;
    for (let cpu = first; cpu <= last; cpu += 1) {
      if (match[1]) chosen.delete(cpu);
      else chosen.add(cpu);
    }
  }
  return [...chosen].sort((a, b) => a - b);
}

export function cpuMask(cpus: Iterable<number>): bigint {
  let mask = 0n;
  for (const cpu of cpus) mask |= 1n << BigInt(cpu);
  return mask;
}

/** The set bits below `limit`. */
export function cpusOfMask(mask: bigint, limit: number): number[] {
  const cpus: number[] = [];
  for (let cpu = 0; cpu < limit; cpu += 1) if ((mask >> BigInt(cpu)) & 1n) cpus.push(cpu);
  return cpus;
}
