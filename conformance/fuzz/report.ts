/** A mismatch for people: the program as text, and what differs. */
import { decodeInstruction, disassemble } from '@xenhost/cpu';
import type { Mismatch } from './judge.ts';
import { imageOffset, type Event } from './world.ts';

const REGISTERS = ['rax', 'rcx', 'rdx', 'rbx', 'rsp', 'rbp', 'rsi', 'rdi', 'r8', 'r9', 'r10', 'r11', 'r12', 'r13', 'r14', 'r15']; // prettier-ignore
const SHOWN_DIFFERENCES = 12;
const LONGEST = 15;

const hex = (value: bigint | number): string => `0x${value.toString(16)}`;

export function describe({ entry, reference, contestant, expected, actual, differences }: Mismatch): string {
  const lines = [`MISMATCH ${contestant.name} against ${reference.name}, program seed ${entry.seed}`];
  for (const { event, what, expected: want, actual: got } of differences.slice(0, SHOWN_DIFFERENCES))
    lines.push(`  ${event < 0 ? 'end' : `event ${event}`}: ${what} is ${got}, ${reference.name} has ${want}`);
  if (differences.length > SHOWN_DIFFERENCES) lines.push(`  and ${differences.length - SHOWN_DIFFERENCES} more`);
  lines.push(...listing(entry.layout.image.bytes, entry));
  const { gpr, rflags } = entry.program;
  lines.push(`  start: rip ${hex(entry.layout.image.entry)}, rflags ${hex(rflags)}, ${registers(gpr)}`);
  const nrEvents = Math.max(expected.events.length, actual.events.length);
  for (let n = 0; n < nrEvents; n++) {
    lines.push(`  event ${n} ${reference.name}: ${describeEvent(expected.events[n])}`);
    lines.push(`  event ${n} ${contestant.name}: ${describeEvent(actual.events[n])}`);
  }
  return lines.join('\n');
}

function listing(bytes: Uint8Array, { layout, program }: Mismatch['entry']): string[] {
  const insns = program.fragments.flatMap(({ items }) => items).filter((item) => item.kind === 'insn');
  const used = new Set<string | number>(insns.flatMap(({ fixups }) => fixups.map(({ target }) => target)));
  for (const label of program.tables.flatMap((table) => table.labels)) used.add(label);
  const labels = Map.groupBy([...layout.addresses].filter(([name]) => used.has(name)), ([, address]) => address); // prettier-ignore
  const lines: string[] = [];
  for (const fragment of [...program.fragments].sort((a, b) => a.address - b.address)) {
    if (fragment.items.length === 0) continue;
    lines.push('');
    const nrInstructions = fragment.items.filter(({ kind }) => kind === 'insn').length;
    let at = fragment.address;
    for (let n = 0; n <= nrInstructions; n++) {
      const names = (labels.get(at) ?? []).map(([name]) => `${name}:`).join(' ');
      if (names) lines.push(`  ${names}`);
      if (n === nrInstructions) break;
      const from = imageOffset(at) ?? 0;
      const code = bytes.subarray(from, from + LONGEST);
      const decoded = decodeInstruction(code, 64);
      const next = [...layout.undefinedFlags.keys()].filter((address) => address > at).reduce((a, b) => Math.min(a, b), at + LONGEST); // prettier-ignore
      const length = Math.min(next - at, LONGEST);
      const text = typeof decoded === 'string' ? `(${decoded})` : disassemble(decoded, BigInt(at));
      lines.push(`    ${hex(at)}  ${Buffer.from(code.subarray(0, length)).toString('hex').padEnd(24)} ${text}`);
      at += length;
    }
  }
  return lines;
}

function registers(gpr: BigUint64Array): string {
  return [...gpr].map((value, n) => `${REGISTERS[n] ?? ''} ${hex(value)}`).join(' ');
}

function describeEvent(event: Event | undefined): string {
  if (!event) return 'none';
  const { vector, errorCode, address, rip, rflags, gpr } = event;
  return `vector ${vector} error ${hex(errorCode)} cr2 ${hex(address)} rip ${hex(rip)} rflags ${hex(rflags)} ${registers(gpr)}`;
}
