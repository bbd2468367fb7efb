/** The columns of xentop: title, width, what is shown and how domains are sorted by it. */
import type { VbdCounters } from '@xenhost/daemon-kit';
import { fixed } from '../text.ts';
import type { DomainSample, HostSample } from './sample.ts';

export interface View {
  readonly now: HostSample;
  /** What percentages are reckoned against. */
  readonly before: HostSample | undefined;
  readonly fullNames: boolean;
}

export interface Field {
  readonly title: string;
  readonly width: number;
  show(domain: DomainSample, view: View): string;
  /** Negative when the first stands higher. */
  order(a: DomainSample, b: DomainSample, view: View): number;
}

/** Whole numbers, the greatest first. */
function amount(title: string, width: number, value: (domain: DomainSample) => number): Field {
  return {
    title,
    width,
    show: (domain) => String(Math.floor(value(domain))).padStart(width),
    order: (a, b) => value(b) - value(a),
  };
}

/** One digit after the point, the greatest first; `missing` where there is none. */
function percentage(
  title: string,
  width: number,
  value: (domain: DomainSample, view: View) => number | undefined,
  missing = '',
): Field {
  return {
    title,
    width,
    show: (domain, view) => {
      const found = value(domain, view);
      return (found === undefined ? missing : fixed(found, 1)).padStart(width);
    },
    order: (a, b, view) => (value(b, view) ?? Infinity) - (value(a, view) ?? Infinity) || 0,
  };
}

/** Where a state's letter stands in xend's text, in the order of xentop's column. */
const STATE_PLACES: readonly (readonly [letter: string, place: number])[] = [
  ['d', 5],
  ['s', 3],
  ['b', 1],
  ['c', 4],
  ['p', 2],
  ['r', 0],
];

const isIn = ({ state }: DomainSample, [letter, place]: readonly [string, number]): boolean =>
  state.charAt(place) === letter;

export const stateText = (domain: DomainSample): string =>
  STATE_PLACES.map((row) => (isIn(domain, row) ? row[0] : '-')).join('');

/** Of one CPU, since the view before. */
function cpuPercent(domain: DomainSample, { now, before }: View): number {
  const earlier = before?.domains.find((other) => other.domid === domain.domid);
  const seconds = before ? (now.timeMs - before.timeMs) / 1000 : 0;
  return earlier && seconds > 0 ? ((domain.cpuTimeS - earlier.cpuTimeS) / seconds) * 100 : 0;
}

const ofTotal = (kib: number | undefined, { now }: View): number | undefined =>
  kib === undefined ? undefined : (kib / Math.max(1, now.totalKiB)) * 100;

const NAME_WIDTH = 10;
const BYTES_PER_KIB = 1024;

const traffic =
  (name: 'tx_bytes' | 'rx_bytes') =>
  ({ vifs }: DomainSample): number =>
    vifs.reduce((sum, counters) => sum + (counters?.[name] ?? 0), 0) / BYTES_PER_KIB;

const requests =
  (name: keyof VbdCounters) =>
  ({ vbds }: DomainSample): number =>
    vbds.reduce((sum, { counters }) => sum + (counters?.[name] ?? 0), 0);

export const fields: readonly Field[] = [
  {
    title: 'NAME',
    width: NAME_WIDTH,
    show: ({ name }, { fullNames }) => (fullNames ? name : name.slice(0, NAME_WIDTH)).padStart(NAME_WIDTH),
    order: (a, b) => {
      const [x, y] = [a.name.toLowerCase(), b.name.toLowerCase()];
      return x < y ? -1 : x > y ? 1 : 0;
    },
  },
  {
    title: 'STATE',
    width: 6,
    show: stateText,
    order: (a, b) => {
      const decides = STATE_PLACES.find((row) => isIn(a, row) !== isIn(b, row));
      return decides === undefined ? 0 : isIn(a, decides) ? -1 : 1;
    },
  },
  amount('CPU(sec)', 10, ({ cpuTimeS }) => cpuTimeS),
  percentage('CPU(%)', 6, cpuPercent),
  amount('MEM(k)', 10, ({ memoryKiB }) => memoryKiB),
  percentage('MEM(%)', 6, ({ memoryKiB }, view) => ofTotal(memoryKiB, view)),
  {
    title: 'MAXMEM(k)',
    width: 10,
    show: ({ maxMemoryKiB }) => (maxMemoryKiB === undefined ? 'no limit' : String(maxMemoryKiB)).padStart(10),
    order: (a, b) => (b.maxMemoryKiB ?? Infinity) - (a.maxMemoryKiB ?? Infinity) || 0,
  },
  percentage('MAXMEM(%)', 9, ({ maxMemoryKiB }, view) => ofTotal(maxMemoryKiB, view), 'n/a'),
  amount('VCPUS', 5, ({ vcpuCount }) => vcpuCount),
  amount('NETS', 4, ({ vifs }) => vifs.length),
  amount('NETTX(k)', 8, traffic('tx_bytes')),
  amount('NETRX(k)', 8, traffic('rx_bytes')),
  amount('VBDS', 4, ({ vbds }) => vbds.length),
  amount('VBD_OO', 8, requests('oo_req')),
  amount('VBD_RD', 8, requests('rd_req')),
  amount('VBD_WR', 8, requests('wr_req')),
  amount('VBD_RSECT', 10, requests('rd_sect')),
  amount('VBD_WSECT', 10, requests('wr_sect')),
  // No security module gives out identifiers.
  amount('SSID', 4, () => 0),
];
