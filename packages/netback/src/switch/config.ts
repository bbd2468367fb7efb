/**
 * The networks' configuration, network.sxp: rows of SXP as in xend-config.sxp. docs/NETWORK.md tells every key. What is wrong is
 * refused with its line; nothing is guessed.
 */
import { readFileSync } from 'node:fs';
import { isIP } from 'node:net';
import { dirname, resolve } from 'node:path';
import { atomText, isList, parseAllSxp, type Sxp, type SxpLines, type SxpList, SxpParseError } from '@xenhost/sxp';
import { inIpv4Network, type Ipv4, ipv4Mask, type Ipv4Network, parseIpv4, parseIpv4Network } from './ip.ts';
import { MAX_LEASES } from '../uplink/limits.ts';
import { MAC_AGE_MS, MAX_BRIDGES, MAX_MACS, STORM_FRAMES_PER_SECOND } from './limits.ts';
import { type MacNumber, parseMac } from './mac.ts';

export interface ForwardConfig {
  readonly protocol: 'tcp' | 'udp';
  readonly address: string;
  readonly port: number;
  readonly to: { readonly mac: MacNumber } | { readonly ip: Ipv4 };
  readonly guestPort: number;
}

export interface PasstConfig {
  readonly kind: 'passt';
  /** The program; undefined for the one in PATH. */
  readonly program: string | undefined;
  readonly network: Ipv4Network;
  readonly address: Ipv4;
  readonly dns: Ipv4 | undefined;
  readonly resolver: string | undefined;
  readonly range: readonly [Ipv4, Ipv4];
  readonly mtu: number;
  /** Ports of the machine's own 127.0.0.1 that guests reach at the gateway's address. */
  readonly hostLoopback: 'all' | ReadonlySet<number>;
  readonly forwards: readonly ForwardConfig[];
}

export interface TapConfig {
  readonly kind: 'tap';
  readonly device: string;
  /** `A.B.C.D/BITS` for the host's side of it. */
  readonly address: string | undefined;
  /** A bridge of the machine's kernel that the device joins. */
  readonly master: string | undefined;
}

export interface LinkConfig {
  readonly name: string;
  readonly protocol: 'udp' | 'tcp';
  /** Where this end listens, and where the other does: one is enough for TCP. */
  readonly listen: HostPort | undefined;
  readonly peer: HostPort | undefined;
  readonly secretFile: string;
  /** Frames pass between this link and the bridge's uplinks. */
  readonly transit: boolean;
  /** Bytes of a datagram's payload. */
  readonly datagramBytes: number;
}

export interface HostPort {
  readonly host: string;
  readonly port: number;
}

export interface BridgeConfig {
  readonly name: string;
  readonly macAgeMs: number;
  readonly maxMacs: number;
  readonly stormFramesPerSecond: number;
  readonly antispoof: boolean;
  readonly uplinks: readonly (PasstConfig | TapConfig)[];
  readonly links: readonly LinkConfig[];
}

export interface NetworkConfig {
  /** For messages: the file, or where one would be. */
  readonly file: string;
  /** A vif without a bridge joins the first. */
  readonly bridges: readonly BridgeConfig[];
  /** A vif may name any bridge: it comes into being, without uplinks. */
  readonly anyBridge: boolean;
}

/** A configuration that cannot be used; the message names file and line. */
export class NetworkConfigError extends Error {
  override readonly name = 'NetworkConfigError';
}

export const DEFAULT_BRIDGE = 'xenbr0';
/** QEMU's user network has the same addresses: people know them. */
const DEFAULT_NETWORK = '10.0.2.0/24';
const DEFAULT_MTU = 1500;
/** The smallest that IPv4 hosts must take whole, and the largest of a vif (RFC 791; netfront). */
const MTU_RANGE = [576, 65_521] as const;
const DEFAULT_DATAGRAM_BYTES = 1400;
const DATAGRAM_RANGE = [576, 65_000] as const;
/** IFNAMSIZ without its NUL. */
const NAME = /^[A-Za-z0-9_][A-Za-z0-9_.-]{0,14}$/;
/** Addresses of a network that the gateway, the name server and passt have, and the first one for guests. */
const GATEWAY_OFFSET = 2;
const DNS_OFFSET = 3;
export const NAT_OFFSET = 4;
const FIRST_GUEST_OFFSET = 15;
/** Inner ports of forwards lie below those that translations use. */
export const MAX_FORWARDS = 1000;

/** Reads the file; without one there is xenbr0 with a passt uplink. Throws NetworkConfigError. */
export function readNetworkConfig(file: string): NetworkConfig {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return defaultNetworkConfig(file);
    throw new NetworkConfigError(`cannot read ${file}: ${(error as Error).message}`);
  }
  return parseNetworkConfig(text, file);
}

export const defaultNetworkConfig = (file: string): NetworkConfig =>
  parseNetworkConfig(`(bridge ${DEFAULT_BRIDGE} (uplink passt))`, file);

/** Throws NetworkConfigError. */
export function parseNetworkConfig(text: string, file: string): NetworkConfig {
  const lines: SxpLines = new WeakMap();
  const rows = new Rows(file, lines);
  let forms: readonly Sxp[];
  try {
    forms = parseAllSxp(text, lines);
  } catch (error) {
    if (error instanceof SxpParseError) throw new NetworkConfigError(`${file}: ${error.message}`);
    throw error;
  }
  const top = rows.keys(['', ...forms], { bridge: 'many', 'any-bridge': 'one' });
  const bridges = top.many('bridge').map((row) => bridgeOf(row, rows));
  const names = new Set(bridges.map(({ name }) => name));
  if (names.size < bridges.length) rows.fail(top.many('bridge')[0], 'two bridges have one name');
  if (bridges.length > MAX_BRIDGES) rows.fail(top.many('bridge')[0], `more than ${MAX_BRIDGES} bridges`);
  if (bridges.length === 0) throw new NetworkConfigError(`${file}: no (bridge NAME) in it`);
  return { file, bridges, anyBridge: top.flag('any-bridge', false) };
}

function bridgeOf(row: SxpList, rows: Rows): BridgeConfig {
  const name = rows.name(row, row[1]);
  const keys = rows.keys([row[0] ?? '', ...row.slice(2)], {
    uplink: 'many',
    link: 'many',
    antispoof: 'one',
    'mac-age': 'one',
    'mac-limit': 'one',
    'storm-limit': 'one',
  });
  const uplinks = keys.many('uplink').map((uplink) => uplinkOf(uplink, rows));
  if (uplinks.filter(({ kind }) => kind === 'passt').length > 1) rows.fail(row, 'two passt uplinks on one bridge');
  const links = keys.many('link').map((link) => linkOf(link, rows));
  if (new Set(links.map((link) => link.name)).size < links.length)
    rows.fail(row, 'two links of one bridge have one name');
  return {
    name,
    macAgeMs: keys.number('mac-age', MAC_AGE_MS / 1000, 1, 1_000_000) * 1000,
    maxMacs: keys.number('mac-limit', MAX_MACS, 1, 1 << 20),
    stormFramesPerSecond: keys.number('storm-limit', STORM_FRAMES_PER_SECOND, 1, 10_000_000),
    antispoof: keys.flag('antispoof', false),
    uplinks,
    links,
  };
}

function uplinkOf(row: SxpList, rows: Rows): PasstConfig | TapConfig {
  const rest = [row[0] ?? '', ...row.slice(2)];
  switch (row[1]) {
    case 'passt':
      return passtOf(row, rest, rows);
    case 'tap': {
      const keys = rows.keys(rest, { device: 'one', address: 'one', master: 'one' });
      const address = keys.text('address');
      if (address !== undefined && (!address.includes('/') || !parseIpv4Network(address))) {
        rows.fail(row, `not an address with its network's bits: ${address}`);
      }
      const master = keys.text('master');
      return {
        kind: 'tap',
        device: rows.name(row, keys.text('device') ?? 'xentap0'),
        address,
        master: master === undefined ? undefined : rows.name(row, master),
      };
    }
    default:
      return rows.fail(row, `uplink: passt or tap, not ${atomText(row[1]) ?? 'a list'}`);
  }
}

function passtOf(row: SxpList, rest: SxpList, rows: Rows): PasstConfig {
  const keys = rows.keys(rest, {
    program: 'one',
    network: 'one',
    address: 'one',
    dns: 'one',
    resolver: 'one',
    range: 'pair',
    mtu: 'one',
    'host-loopback': 'list',
    forward: 'many',
  });
  const networkText = keys.text('network') ?? DEFAULT_NETWORK;
  const given = parseIpv4Network(networkText);
  if (!given || given.bits > 27 || given.bits < 8) {
    return rows.fail(row, `not a network of 8 to 27 bits: ${networkText}`);
  }
  const network = { address: (given.address & ipv4Mask(given.bits)) >>> 0, bits: given.bits };
  const inside = (text: string): Ipv4 => {
    const ip = parseIpv4(text);
    return ip === undefined || !inIpv4Network(ip, network)
      ? rows.fail(row, `not an address in ${networkText}: ${text}`)
      : ip;
  };
  const [first, last] = keys.pair('range') ?? [];
  const dns = keys.text('dns');
  const resolver = keys.text('resolver');
  if (resolver !== undefined && isIP(resolver) === 0) rows.fail(row, `not an IP address: ${resolver}`);
  const address = keys.text('address');
  const range: [Ipv4, Ipv4] = [
    first === undefined ? network.address + FIRST_GUEST_OFFSET : inside(first),
    last === undefined ? network.address + 2 ** (32 - network.bits) - 2 : inside(last),
  ];
  if (range[1] < range[0]) rows.fail(row, 'range: the last address is below the first');
  if (last === undefined) range[1] = Math.min(range[1], range[0] + MAX_LEASES - 1);
  if (range[1] - range[0] >= MAX_LEASES) rows.fail(row, `range: more than ${MAX_LEASES} addresses`);
  const forwards = keys.many('forward').map((forward) => forwardOf(forward, rows));
  if (forwards.length > MAX_FORWARDS) rows.fail(row, `more than ${MAX_FORWARDS} forwards`);
  return {
    kind: 'passt',
    program: keys.text('program'),
    network,
    address: address === undefined ? network.address + GATEWAY_OFFSET : inside(address),
    dns: dns === 'none' ? undefined : dns === undefined ? network.address + DNS_OFFSET : inside(dns),
    resolver,
    range,
    mtu: keys.number('mtu', DEFAULT_MTU, ...MTU_RANGE),
    hostLoopback: loopbackPorts(row, keys.list('host-loopback'), rows),
    forwards,
  };
}

/** (host-loopback yes), (host-loopback no), (host-loopback PORT ...). */
function loopbackPorts(row: SxpList, given: readonly string[], rows: Rows): 'all' | ReadonlySet<number> {
  if (given.length === 1 && given[0] === 'yes') return 'all';
  if (given.length === 1 && given[0] === 'no') return new Set();
  return new Set(given.map((port) => rows.port(row, port)));
}

/** (forward tcp [ADDRESS:]PORT GUEST PORT). */
function forwardOf(row: SxpList, rows: Rows): ForwardConfig {
  const [, protocol, from, to, guestPort, ...more] = row.map((item) => atomText(item) ?? '');
  if ((protocol !== 'tcp' && protocol !== 'udp') || guestPort === undefined || more.length > 0) {
    return rows.fail(row, 'expected (forward tcp|udp [ADDRESS:]PORT GUEST-MAC|GUEST-IP PORT)');
  }
  const { host, port } = rows.hostPort(row, from?.includes(':') === true ? from : `127.0.0.1:${from ?? ''}`);
  if (isIP(host) !== 4) rows.fail(row, `not an IPv4 address: ${host}`);
  const mac = parseMac(to ?? '');
  const ip = parseIpv4(to ?? '');
  if (mac === undefined && ip === undefined) rows.fail(row, `neither a MAC nor an IPv4 address: ${to ?? ''}`);
  return {
    protocol,
    address: host,
    port,
    to: mac === undefined ? { ip: ip ?? 0 } : { mac },
    guestPort: rows.port(row, guestPort),
  };
}

function linkOf(row: SxpList, rows: Rows): LinkConfig {
  const keys = rows.keys([row[0] ?? '', ...row.slice(2)], {
    protocol: 'one',
    listen: 'one',
    peer: 'one',
    'secret-file': 'one',
    transit: 'one',
    'datagram-bytes': 'one',
  });
  const protocol = keys.text('protocol') ?? 'udp';
  if (protocol !== 'udp' && protocol !== 'tcp') return rows.fail(row, `protocol: udp or tcp, not ${protocol}`);
  const end = (key: string): HostPort | undefined => {
    const text = keys.text(key);
    return text === undefined ? undefined : rows.hostPort(row, text);
  };
  const [listen, peer] = [end('listen'), end('peer')];
  if (protocol === 'udp' && !(listen && peer)) rows.fail(row, 'a UDP link wants listen and peer');
  if (protocol === 'tcp' && (listen === undefined) === (peer === undefined)) {
    rows.fail(row, 'a TCP link wants listen at one end and peer at the other');
  }
  const secretFile = keys.text('secret-file');
  if (secretFile === undefined)
    return rows.fail(row, 'a link wants (secret-file FILE), with the same content at both ends');
  return {
    name: rows.name(row, row[1]),
    protocol,
    listen,
    peer,
    secretFile: resolve(dirname(rows.file), secretFile),
    transit: keys.flag('transit', false),
    datagramBytes: keys.number('datagram-bytes', DEFAULT_DATAGRAM_BYTES, ...DATAGRAM_RANGE),
  };
}

type Count = 'one' | 'pair' | 'list' | 'many';

/** Rows of one list by their keys, each checked when it is read. */
interface Keys {
  many(key: string): readonly SxpList[];
  text(key: string): string | undefined;
  pair(key: string): readonly [string, string] | undefined;
  /** Empty when the key is not given. */
  list(key: string): readonly string[];
  flag(key: string, fallback: boolean): boolean;
  number(key: string, fallback: number, min: number, max: number): number;
}

/** Reads what rows hold; every error names file and line. */
class Rows {
  readonly file: string;
  readonly #lines: SxpLines;

  constructor(file: string, lines: SxpLines) {
    this.file = file;
    this.#lines = lines;
  }

  fail(row: SxpList | undefined, message: string): never {
    throw new NetworkConfigError(`${this.file}: line ${(row && this.#lines.get(row)) ?? 1}: ${message}`);
  }

  /** The rows behind a list's tag. */
  keys(list: SxpList, known: Readonly<Record<string, Count>>): Keys {
    const rows = new Map<string, SxpList[]>();
    for (const row of list.slice(1)) {
      const key = isList(row) ? atomText(row[0]) : undefined;
      if (!isList(row) || key === undefined)
        return this.fail(list, `expected (KEY VALUE), not ${atomText(row) ?? '()'}`);
      const count = Object.hasOwn(known, key) ? known[key] : undefined;
      if (count === undefined) return this.fail(row, `unknown key ${key}: one of ${Object.keys(known).join(', ')}`);
      const before = rows.get(key) ?? [];
      if (count !== 'many' && before.length > 0) this.fail(row, `${key} is given twice`);
      rows.set(key, [...before, row]);
    }
    const texts = (key: string, length: number): string[] | undefined => {
      const row = rows.get(key)?.[0];
      if (!row) return undefined;
      const found = row.slice(1).map((item) => atomText(item) ?? '');
      return found.length === length && !found.includes('')
        ? found
        : this.fail(row, `${key}: expected ${length === 1 ? 'one value' : `${length} values`}`);
    };
    const text = (key: string): string | undefined => texts(key, 1)?.[0];
    return {
      many: (key) => rows.get(key) ?? [],
      text,
      pair: (key) => texts(key, 2) as [string, string] | undefined,
      list: (key) =>
        rows
          .get(key)?.[0]
          ?.slice(1)
          .map((item) => atomText(item) ?? '') ?? [],
      flag: (key, fallback) => {
        const value = text(key);
        if (value === undefined) return fallback;
        if (value !== 'yes' && value !== 'no') this.fail(rows.get(key)?.[0], `${key}: yes or no, not ${value}`);
        return value === 'yes';
      },
      number: (key, fallback, min, max) => {
        const value = text(key);
        if (value === undefined) return fallback;
        const number = /^\d{1,10}$/.test(value) ? Number(value) : NaN;
        if (!(number >= min && number <= max)) {
          this.fail(rows.get(key)?.[0], `${key}: a number from ${min} to ${max}, not ${value}`);
        }
        return number;
      },
    };
  }

  name(row: SxpList, value: Sxp | undefined): string {
    const name = atomText(value) ?? '';
    return NAME.test(name) ? name : this.fail(row, `not a name of up to 15 letters, digits, '_', '-', '.': ${name}`);
  }

  port(row: SxpList, text: string): number {
    const port = /^\d{1,5}$/.test(text) ? Number(text) : 0;
    return port >= 1 && port <= 65_535 ? port : this.fail(row, `not a port: ${text}`);
  }

  /** `HOST:PORT`, `[V6]:PORT`. */
  hostPort(row: SxpList, text: string): HostPort {
    const match = /^(?:\[([^\]]+)\]|([^:]+)):(\d+)$/.exec(text);
    const host = match?.[1] ?? match?.[2];
    return match && host !== undefined
      ? { host, port: this.port(row, match[3] ?? '') }
      : this.fail(row, `expected HOST:PORT: ${text}`);
  }
}
