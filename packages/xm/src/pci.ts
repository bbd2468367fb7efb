/**
 * Names of PCI devices as people write them, `[DDDD:]BB:SS.F[@VSLOT][,option=value…]` with lists and ranges of functions,
 * and the SXP that xend gets (Xen 4.4 `xen/util/pci.py`).
 */
import type { Sxp } from '@xenhost/sxp';

/** One function of a device. */
export interface PciFunction {
  readonly domain: number;
  readonly bus: number;
  readonly slot: number;
  readonly func: number;
  /** The guest's slot and function; with AUTO_SLOT where the device model chooses the slot. */
  readonly vdevfn: number;
  readonly options: readonly (readonly [string, string])[];
  /** What ties functions together that were given as one. */
  readonly key: string;
}

export class PciNameError extends Error {
  constructor(message: string) {
    super(message);
    this.name = 'PciNameError';
  }
}

/** In vdevfn: the slot is not chosen yet. */
export const AUTO_SLOT = 0x100;
export const slotOf = (devfn: number): number => (devfn >> 3) & 0x1f;
export const funcOf = (devfn: number): number => devfn & 7;
export const devfnOf = (slot: number, func: number): number => ((slot & 0x1f) << 3) | (func & 7);

const NAME =
  /^(?:([0-9a-fA-F]{1,4})[:,])?([0-9a-fA-F]{1,2})[:,]([0-9a-fA-F]{1,2})[.,](\*|[0-7](?:[,\-=][0-7])*)(?:@([01]?[0-9a-fA-F]))?(?:,(.*))?$/;
const hex = (text: string): number => Number.parseInt(text, 16);

interface FunctionPair {
  readonly physical: number;
  readonly virtual: number;
  readonly chosen: boolean;
}

/** The functions of a name, virtual function 0 last. Throws PciNameError. */
export function parsePciName(text: string): PciFunction[] {
  const match = NAME.exec(text);
  if (!match) throw new PciNameError(`Failed to parse pci device: ${text}`);
  const [, domain = '0', bus = '', slot = '', functions = '', virtualSlot, optionText = ''] = match;
  // `*` stands for all functions that the host has: here it has no PCI device at all.
  if (functions === '*') return [];
  const options = optionsOf(optionText);
  return virtualFunctions(text, functions).map(({ physical, virtual }) => ({
    domain: hex(domain),
    bus: hex(bus),
    slot: hex(slot),
    func: physical,
    vdevfn: virtualSlot === undefined ? AUTO_SLOT | virtual : devfnOf(hex(virtualSlot), virtual),
    options,
    key: text.split(',')[0] ?? text,
  }));
}

function optionsOf(text: string): (readonly [string, string])[] {
  return text
    .split(',')
    .filter((word) => word !== '')
    .map((word) => {
      const [key = '', value = ''] = word.split('=');
      if (!['msitranslate', 'power_mgmt'].includes(key) || !/^(?:0|1|yes|no)$/i.test(value)) {
        throw new PciNameError(`Invalid pci option ${key}=${value}: `);
      }
      return [key, value] as const;
    });
}

function virtualFunctions(text: string, functions: string): FunctionPair[] {
  const pairs = functions.split(',').flatMap((part) => functionRange(part));
  const distinct = (values: readonly number[]): boolean => new Set(values).size === values.length;
  if (!distinct(pairs.map((pair) => pair.physical)) || !distinct(pairs.map((pair) => pair.virtual))) {
    throw new PciNameError(`Duplicate functions: ${text}`);
  }
  if (!pairs.some((pair) => pair.virtual === 0)) {
    const lowest = pairs.filter((pair) => !pair.chosen).sort((a, b) => a.virtual - b.virtual)[0];
    if (!lowest) throw new PciNameError(`Virtual device does not include virtual function 0: ${text}`);
    pairs.splice(pairs.indexOf(lowest), 1, { ...lowest, virtual: 0 });
  }
  // Function 0 is what tells the guest: it comes last.
  return pairs.sort((a, b) => b.virtual - a.virtual);
}

/** `3`, `3=1`, `0-3`, `0=4-3=7`. */
function functionRange(part: string): FunctionPair[] {
  const ends = part.split('-').map((word): FunctionPair => {
    const [physical = '', virtual, ...more] = word.split('=');
    if (more.length > 0) throw new PciNameError(`Invalid function: ${word}`);
    return { physical: Number(physical), virtual: Number(virtual ?? physical), chosen: virtual !== undefined };
  });
  const [first, last] = ends;
  if (!first || ends.length > 2) return [];
  if (!last) return [first];
  const physical = span(first.physical, last.physical);
  const virtual = span(first.virtual, last.virtual);
  if (physical.length !== virtual.length) throw new PciNameError(`Invalid range in: ${part}`);
  return physical.map((func, i) => ({ physical: func, virtual: virtual[i] ?? func, chosen: true }));
}

function span(from: number, to: number): number[] {
  const step = to < from ? -1 : 1;
  return Array.from({ length: Math.abs(to - from) + 1 }, (_, i) => from + i * step);
}

const digits = (value: number, width: number): string => value.toString(16).padStart(width, '0');

/** `0000:01:02.3`. */
export const pciName = (device: Omit<PciFunction, 'vdevfn' | 'options' | 'key'>): string =>
  `${digits(device.domain, 4)}:${digits(device.bus, 2)}:${digits(device.slot, 2)}.${device.func.toString(16)}`;

/** `(dev (domain 0x0000) …)`, in the order in which Python 2 had the keys. */
export function pciSxp(device: PciFunction): Sxp {
  return [
    'dev',
    ['slot', `0x${digits(device.slot, 2)}`],
    ['domain', `0x${digits(device.domain, 4)}`],
    ['key', device.key],
    ['bus', `0x${digits(device.bus, 2)}`],
    ['vdevfn', `0x${digits(device.vdevfn, 2)}`],
    ['func', `0x${device.func.toString(16)}`],
    ...device.options.map((option): Sxp => ['opts', [...option]]),
  ];
}
