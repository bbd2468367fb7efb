/** The view of xm top as lines of text: the same for the screen, which marks some of it, and for batch mode. */
import type { VbdCounters, VifCounters } from '@xenhost/daemon-kit';
import { fields, type View } from './fields.ts';
import type { DomainSample, HostSample } from './sample.ts';

export interface ScreenState {
  readonly networks: boolean;
  readonly vbds: boolean;
  readonly vcpus: boolean;
  readonly repeatHeader: boolean;
  /** Index of the column that domains are sorted by. */
  readonly sort: number;
  /** How many domains are scrolled away. */
  readonly first: number;
}

/** How a terminal marks text; batch mode marks nothing. */
export interface Marks {
  reverse(text: string): string;
  bold(text: string): string;
}

export const PLAIN: Marks = { reverse: (text) => text, bold: (text) => text };
export const ANSI: Marks = {
  reverse: (text) => `\x1b[7m${text}\x1b[27m`,
  bold: (text) => `\x1b[1m${text}\x1b[22m`,
};

const two = (n: number): string => String(n).padStart(2, '0');

/** In the order of xend's text. */
const STATE_LETTERS = 'rbpscd';

/** The lines above the table. */
export function summary({ timeMs, xenVersion, totalKiB, freeKiB, nrCpus, cpuMhz, domains }: HostSample): string[] {
  const time = new Date(timeMs);
  const clock = [time.getHours(), time.getMinutes(), time.getSeconds()].map(two).join(':');
  // A domain counts once, for the first of these that it is in.
  const counts = new Map(Array.from(STATE_LETTERS).map((letter) => [letter, 0]));
  for (const { state } of domains) {
    const letter = Array.from(STATE_LETTERS).find((candidate, place) => state.charAt(place) === candidate);
    if (letter !== undefined) counts.set(letter, (counts.get(letter) ?? 0) + 1);
  }
  const count = (letter: string): number => counts.get(letter) ?? 0;
  return [
    `xentop - ${clock}   Xen ${xenVersion}`,
    `${domains.length} domains: ${count('r')} running, ${count('b')} blocked, ${count('p')} paused, ` +
      `${count('c')} crashed, ${count('d')} dying, ${count('s')} shutdown `,
    `Mem: ${totalKiB}k total, ${totalKiB - freeKiB}k used, ${freeKiB}k free    CPUs: ${nrCpus} @ ${cpuMhz}MHz`,
  ];
}

/** The table: header and domains, with what else is wanted of each. */
export function table(view: View, state: ScreenState, marks: Marks): string[] {
  const sort = fields[state.sort] ?? fields[0];
  const sorted = [...view.now.domains].sort((a, b) => sort?.order(a, b, view) ?? 0);
  const first = Math.max(0, Math.min(state.first, sorted.length - 1));
  const mark = (text: string, i: number): string => (i === state.sort ? marks.bold(text) : text);
  const header = marks.reverse(fields.map(({ title, width }, i) => mark(title.padStart(width), i)).join(' '));
  return sorted
    .slice(first)
    .flatMap((domain, i) => [
      ...(i === 0 || state.repeatHeader ? [header] : []),
      fields.map((field, column) => mark(field.show(domain, view), column)).join(' '),
      ...(state.vcpus ? vcpuLines(domain) : []),
      ...(state.networks ? networkLines(domain) : []),
      ...(state.vbds ? vbdLines(domain) : []),
    ]);
}

const VCPUS_PER_LINE = 5;

function vcpuLines({ vcpus }: DomainSample): string[] {
  const lines = ['VCPUs(sec): '];
  for (const { number, online, timeS } of vcpus) {
    if (!online) continue;
    if (number !== 0 && number % VCPUS_PER_LINE === 0) lines.push('        ');
    lines.push(`${lines.pop() ?? ''} ${String(number).padStart(2)}: ${String(Math.floor(timeS)).padStart(10)}s`);
  }
  return lines;
}

const padded = (value: number | undefined, width: number): string => String(value ?? 0).padStart(width);

function networkLines({ vifs }: DomainSample): string[] {
  const side = (counters: VifCounters | undefined, way: 'rx' | 'tx'): string =>
    `${padded(counters?.[`${way}_bytes`], 8)}bytes ${padded(counters?.[`${way}_packets`], 8)}pkts ` +
    `${padded(counters?.[`${way}_errors`], 8)}err ${padded(counters?.[`${way}_dropped`], 8)}drop`;
  return vifs.map((counters, i) => `Net${i} RX: ${side(counters, 'rx')}  TX: ${side(counters, 'tx')}`);
}

function vbdLines({ vbds }: DomainSample): string[] {
  return vbds.map(({ device, tap, counters }) => {
    const place = `[${(device >> 8).toString(16).padStart(2)}:${(device & 0xff).toString(16).padStart(2)}] `;
    const count = (name: keyof VbdCounters, width: number): string => padded(counters?.[name], width);
    return (
      `VBD ${tap ? 'BlkTap' : 'BlkBack'} ${String(device).padStart(4)} ${place} OO: ${count('oo_req', 8)}   ` +
      `RD: ${count('rd_req', 8)}   WR: ${count('wr_req', 8)}   ` +
      `RSECT: ${count('rd_sect', 10)}   WSECT: ${count('wr_sect', 10)}`
    );
  });
}

/** The keys, on the last line of the screen. */
export function keyLine(state: ScreenState, prompt: string | undefined): string {
  if (prompt !== undefined) return `  ${prompt}`;
  const key = (text: string): string => ANSI.reverse(text);
  const on = (text: string, active: boolean): string => (active ? `\x1b[43m${text}\x1b[49m` : text);
  return [
    `  ${key('D')}elay`,
    key('N') + on('etworks', state.networks),
    on('v', state.vbds) + key('B') + on('ds', state.vbds),
    key('V') + on('CPUs', state.vcpus),
    key('R') + on('epeat header', state.repeatHeader),
    `${key('S')}ort order`,
    `${key('Q')}uit`,
  ].join('  ');
}

/** A line no wider than the screen; marks take no room. */
export function clipped(line: string, columns: number): string {
  let room = columns;
  // eslint-disable-next-line no-control-regex -- escape sequences are what is looked for
  return line.replace(/(\x1b\[[0-9;]*m)|[\s\S]/g, (char: string, mark: string | undefined) => {
    if (mark !== undefined) return mark;
    room -= 1;
    return room >= 0 ? char : '';
  });
}
