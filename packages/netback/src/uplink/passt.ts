/** passt as a process: where it is, and with which options it serves a gateway (passt(1)). */
import { accessSync, constants, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ipv4Text } from '../switch/ip.ts';
import { macText } from '../switch/mac.ts';
import type { Forward, GatewayOptions } from './gateway.ts';

export interface PasstOptions {
  readonly gateway: GatewayOptions;
  /** The machine has no way out: its loopback device stands for one. */
  readonly loopbackOnly: boolean;
}

/** The program: what XENHOST_PASST names, else the one in PATH; undefined when there is none. */
export function findPasst(env: NodeJS.ProcessEnv = process.env): string | undefined {
  const named = env['XENHOST_PASST'];
  const folders = (env['PATH'] ?? '').split(':').filter((folder) => folder !== '');
  return [...(named ? [named] : []), ...folders.map((folder) => join(folder, 'passt'))].find(isProgram);
}

function isProgram(file: string): boolean {
  try {
    accessSync(file, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

/** The first passt that does not take a far end that says nothing for one that is gone: "tcp: Clear ACK_FROM_TAP_DUE ...". */
const FIRST_PATIENT = 20_230_321;

/** Whether this passt, by what `passt --version` says, resets a guest's TCP connection after 24 s without a byte from the far end. */
export function isImpatient(version: string): boolean {
  // Debian 12's does not know its own version: it is of 2023-03-09.
  if (version.startsWith('passt unknown version')) return true;
  const date = /(\d{4})_?(\d{2})_?(\d{2})\./.exec(version);
  return date !== null && Number(date.slice(1).join('')) < FIRST_PATIENT;
}

/** Whether a default route for IPv4 stands in the text of /proc/net/route. */
export function hasDefaultRoute(routes: string = readRoutes()): boolean {
  return routes.split('\n').some((line) => {
    const [device, destination, , , , , , mask] = line.split(/\s+/);
    return device !== 'Iface' && destination === '00000000' && mask === '00000000';
  });
}

function readRoutes(): string {
  try {
    return readFileSync('/proc/net/route', 'latin1');
  } catch {
    return '';
  }
}

/** One client on descriptor 3; it ends with that. What passt would answer itself, the gateway answers. */
export function passtArgs({ gateway, loopbackOnly }: PasstOptions): string[] {
  const { mac, network, address, natAddress, mtu, forwards } = gateway;
  const tcp = forwards.filter(({ protocol }) => protocol === 'tcp');
  const udp = forwards.filter(({ protocol }) => protocol === 'udp');
  return [
    ...['-f', '-e', '-q', '-4', '--no-dhcp', '--no-ndp', '--no-ra', '--no-dhcpv6', '-F', '3'],
    ...(loopbackOnly ? ['-i', 'lo'] : []),
    ...['-a', ipv4Text(natAddress), '-n', String(network.bits), '-g', ipv4Text(address), '-M', macText(mac)],
    ...['-m', String(mtu), '-D', 'none'],
    // The gateway's address is 127.0.0.1 to passt: the gateway chooses who gets there.
    ...(tcp.length > 0 ? tcp.flatMap((forward) => ['-t', portSpec(forward)]) : ['-t', 'none']),
    // Without this passt would open the UDP ports of the same numbers, too.
    ...(udp.length > 0 ? udp.flatMap((forward) => ['-u', portSpec(forward)]) : ['-u', 'none']),
  ];
}

const portSpec = ({ address, port, innerPort }: Forward): string =>
  `${address === '0.0.0.0' ? '' : `${address}/`}${port}:${innerPort}`;
