/**
 * Debian's cloud kernel with the same initramfs on a host of ours and in QEMU's TCG: a shell on its console, with a disk, a
 * network interface, or both. blkfront and netfront there, virtio-blk and virtio-net here.
 */
import { spawn } from 'node:child_process';
import {
  ConsoleSession,
  type DeviceGuest,
  type DeviceGuestOptions,
  startDeviceGuest,
  type TestHost,
} from '@xenhost/testkit';
import { median, print } from './figures.ts';

const READY = /GUEST-READY.*/;
const BOOT_TIMEOUT_MS = 300_000;
const MEMORY_MIB = 256;
const QUICK_BOOT = 'cryptomgr.notests quiet';

export interface DeviceMachine {
  /** The disk's device file in the guest. */
  readonly disk: string;
  /** Runs a shell command and gives what was printed. */
  command(line: string, timeoutMs: number): Promise<string>;
  stop(): Promise<void>;
}

/** The guest on a host that runs; `disk` and `vif` as in a config file. */
export async function startOurs(
  host: TestHost,
  guest: DeviceGuest,
  name: string,
  options: DeviceGuestOptions,
): Promise<DeviceMachine> {
  const console = await startDeviceGuest(host, guest, name, options);
  return {
    disk: '/dev/xvda',
    command: (line, timeoutMs) => console.command(line, timeoutMs),
    stop: async () => {
      console.close();
      await host.mustXm('destroy', name);
    },
  };
}

let macs = 0;
/** Different for every device of this process: several machines share a network. */
const nextMac = (): string => `52:54:00:77:00:${(++macs).toString(16).padStart(2, '0')}`;

export interface TcgOptions {
  /** A raw image. */
  readonly disk?: string;
  /** A network device each: the words after `-netdev`, without its id. */
  readonly networks?: readonly string[];
}

/** A machine of Debian's qemu-system-x86; its serial console is standard input and output. */
export async function startTcg(guest: DeviceGuest, { disk, networks = [] }: TcgOptions): Promise<DeviceMachine> {
  const args = [
    ...['-accel', 'tcg', '-smp', '1', '-m', String(MEMORY_MIB), '-nodefaults'],
    ...['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', guest.kernel, '-initrd', guest.ramdisk, '-append', `console=ttyS0 ${QUICK_BOOT}`],
    ...(disk === undefined ? [] : ['-drive', `file=${disk},if=virtio,format=raw`]),
    ...networks.flatMap((network, i) => [
      ...['-netdev', `${network},id=n${i}`],
      ...['-device', `virtio-net-pci,netdev=n${i},mac=${nextMac()}`],
    ]),
  ];
  const console = new ConsoleSession(spawn('qemu-system-x86_64', args, { stdio: 'pipe' }));
  try {
    await console.expect(READY, BOOT_TIMEOUT_MS);
    // The bus of these devices is there only since /init has loaded virtio_pci.
    await console.command('modprobe virtio_blk; modprobe virtio_net', BOOT_TIMEOUT_MS);
  } catch (error) {
    console.close();
    throw error;
  }
  return {
    disk: '/dev/vda',
    command: (line, timeoutMs) => console.command(line, timeoutMs),
    stop: () => {
      console.close();
      return Promise.resolve();
    },
  };
}

/** One line of a comparison. */
export interface ComparedLine {
  readonly name: string;
  readonly unit: string;
  /** Whether less is better: the ratio is turned round then. */
  readonly lessIsBetter?: boolean;
}

/** Measures a line on the machines in turn, `runs` times, and prints the medians and ours in relation to TCG's. */
export async function compareMachines<Machine extends { readonly name: 'ours' | 'tcg' }>(
  machines: readonly Machine[],
  line: ComparedLine,
  runs: number,
  measure: (machine: Machine) => Promise<number>,
): Promise<void> {
  const found = new Map<string, number[]>(machines.map(({ name }) => [name, []]));
  for (let run = 0; run < runs; run++)
    for (const machine of machines) found.get(machine.name)?.push(await measure(machine));
  const of = (name: Machine['name']): number | undefined => {
    const all = found.get(name);
    return all === undefined ? undefined : median(all);
  };
  const [ours, tcg] = [of('ours'), of('tcg')];
  const ratio = ours === undefined || tcg === undefined ? undefined : ours / tcg;
  const ratioToTcg = ratio !== undefined && line.lessIsBetter === true ? 1 / ratio : ratio;
  print({ name: line.name, unit: line.unit, ours, tcg, ratioToTcg });
}

export interface Done {
  readonly ops: number;
  readonly bytes: number;
  readonly seconds: number;
}

/** The last line of gio, `GIO ops=N bytes=N ns=N`; throws with the output where there is none. */
export function gioFigure(output: string): Done {
  const [, ops, bytes, ns] = /^GIO ops=(\d+) bytes=(\d+) ns=(\d+)/m.exec(output) ?? [];
  if (ns === undefined) throw new Error(`gio gave no figure: ${JSON.stringify(output.slice(-500))}`);
  return { ops: Number(ops), bytes: Number(bytes), seconds: Number(ns) / 1e9 };
}
