/** A bridge's way out through passt: the gateway as a port of the bridge, and the process behind it. */
import { execFile } from 'node:child_process';
import type { Clock } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { Bridge } from '../switch/bridge.ts';
import { NAT_OFFSET, type PasstConfig } from '../switch/config.ts';
import { ipv4Text } from '../switch/ip.ts';
import { macText, parseMac } from '../switch/mac.ts';
import { DnsForwarder, firstNameServer } from './dns.ts';
import { Gateway, type GatewayOptions } from './gateway.ts';
import { Helper } from './helper.ts';
import { findPasst, hasDefaultRoute, isImpatient, passtArgs } from './passt.ts';

/** Xen's vendor part; xend makes MACs whose fourth byte is below 80 of it, so that no guest has this one by chance. */
const GATEWAY_MAC = parseMac('00:16:3e:ff:ff:fe') ?? 0;

export interface Uplink {
  readonly gateway?: Gateway;
  /** Of the helper process, for tests and people. */
  readonly pid: number | undefined;
  close(): Promise<void>;
}

export interface UplinkModules {
  readonly bridge: Bridge;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Undefined when passt is not on this machine: the bridge stays isolated, and the log says so. */
export function openPasst(config: PasstConfig, { bridge, clock, log }: UplinkModules): Uplink | undefined {
  const command = config.program ?? findPasst();
  if (command === undefined) {
    log.warn(
      { bridge: bridge.name },
      'passt is not installed: the bridge is isolated, guests on it reach each other only (docs/NETWORK.md)',
    );
    return undefined;
  }
  const { network, address, dns, range, mtu, resolver, hostLoopback } = config;
  const inner = { tcp: 0, udp: 0 };
  const forwards = config.forwards.map((forward) => ({ ...forward, innerPort: (inner[forward.protocol] += 1) }));
  const natAddress = network.address + NAT_OFFSET;
  const options: GatewayOptions = {
    mac: GATEWAY_MAC,
    network,
    address,
    dns,
    natAddress,
    range,
    mtu,
    forwards,
    hostLoopback,
  };
  const port = bridge.attach({
    kind: 'uplink',
    name: 'passt',
    mac: macText(GATEWAY_MAC),
    // passt takes frames of any size and looks at no checksum of a guest's.
    accepts: { checksumPartial: true, gso: new Set(['tcpv4']) },
  });
  const send = (...parts: readonly Uint8Array[]): boolean => helper.send(...parts);
  const server = resolver ?? firstNameServer();
  const names = dns === undefined || server === undefined ? undefined : new DnsForwarder({ resolver: server }, { log });
  const gateway = new Gateway(options, { port, send, dns: names, clock });
  const loopbackOnly = !hasDefaultRoute();
  const args = passtArgs({ gateway: options, loopbackOnly });
  const helper = new Helper(
    { name: `passt of ${bridge.name}`, command, args },
    {
      log,
      frame: (bytes) => {
        gateway.fromOutside(bytes);
      },
    },
  );
  log.info({ bridge: bridge.name, gateway: ipv4Text(address), loopbackOnly, command }, 'uplink through passt');
  execFile(command, ['--version'], (_error, told) => {
    if (!isImpatient(told)) return;
    log.warn(
      { bridge: bridge.name, version: told.split('\n')[0] },
      'this passt resets TCP connections of guests whose far end says nothing for 24 s',
    );
  });
  return {
    gateway,
    get pid() {
      return helper.pid;
    },
    close: () => {
      port.close();
      names?.close();
      return helper.close();
    },
  };
}
