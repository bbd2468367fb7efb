/** What the parts of this run share: options, the guest, images of every format, hosts with guests on them. */
import { execFile } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import {
  assert,
  type ConsoleSession,
  type DeviceGuest,
  deviceGuest,
  type DeviceGuestOptions,
  type Report,
  LOOPBACK_NETWORK,
  startDeviceGuest,
  TestHost,
  until,
} from '@xenhost/testkit';

export const COMMAND_TIMEOUT_MS = 300_000;
const HOST_MEMORY_MIB = 1024;

export interface Options {
  /** Of each run of random requests. */
  readonly seconds: number;
  /** Of each transfer over the network. */
  readonly megabytes: number;
  /** Of the part `many`. */
  readonly guests: number;
  readonly jit: string | undefined;
}

/** A kind of image: how it is made, and what a config file calls it. */
export interface Format {
  readonly name: string;
  readonly prefix: string;
  /** qemu-img's name of it, and its options. */
  readonly qemu: string;
  readonly creation: readonly string[];
}

export const raw: Format = { name: 'raw', prefix: 'file:', qemu: 'raw', creation: [] };
export const qcow2: Format = { name: 'qcow2', prefix: 'tap:qcow2:', qemu: 'qcow2', creation: [] };
const vhd: Format = {
  name: 'vhd',
  prefix: 'tap2:vhd:',
  qemu: 'vpc',
  creation: ['-o', 'subformat=dynamic,force_size=on'],
};
export const formats: readonly Format[] = [raw, qcow2, vhd];

export class World {
  readonly report: Report;
  readonly options: Options;
  readonly guest: DeviceGuest;
  /** For images; goes away at the end. */
  readonly directory = mkdtempSync(join(tmpdir(), 'xh-'));

  private constructor(report: Report, options: Options, guest: DeviceGuest) {
    this.report = report;
    this.options = options;
    this.guest = guest;
  }

  static async open(report: Report, options: Options): Promise<World> {
    const script = (name: string): Uint8Array => readFileSync(new URL(`guest/${name}`, import.meta.url));
    const more = [
      { path: 'files', data: script('files.sh'), mode: 0o755 },
      { path: 'dhcp', data: script('dhcp.sh'), mode: 0o755 },
    ];
    return new World(report, options, await deviceGuest((line) => report.note(line), { more }));
  }

  close(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }

  /** An empty image; its path. */
  async image(format: Format, name: string, mebibytes: number, more: readonly string[] = []): Promise<string> {
    const path = join(this.directory, `${name}.${format.name}`);
    await this.qemuImg('create', '-q', '-f', format.qemu, ...format.creation, ...more, path, `${mebibytes}M`);
    return path;
  }

  async qemuImg(...args: readonly string[]): Promise<string> {
    return (await promisify(execFile)('qemu-img', args)).stdout;
  }

  /** The guest's view of an image, as bytes, read by QEMU's tools. */
  async content(format: Format, image: string): Promise<Buffer> {
    if (format.qemu === 'raw') return readFileSync(image);
    const raw = `${image}.raw`;
    await this.qemuImg('convert', '-f', format.qemu, '-O', 'raw', image, raw);
    const bytes = readFileSync(raw);
    rmSync(raw);
    return bytes;
  }

  /** A host for one part of the run: a part that breaks it does not break the others. */
  async withHost(body: (host: TestHost) => Promise<void>, memoryMiB = HOST_MEMORY_MIB): Promise<void> {
    const host = await TestHost.start({ memoryMiB, jit: this.options.jit, networkConfig: LOOPBACK_NETWORK });
    const before = this.report.failed;
    try {
      await body(host);
    } finally {
      if (this.report.failed > before) this.report.note(host.logs());
      await host.stop();
    }
  }

  /** The guest's device file of its disk number `index`. */
  device(index: number): string {
    return `/dev/xvd${String.fromCharCode('a'.charCodeAt(0) + index)}`;
  }

  /** The `disk` lines of a config file. */
  diskLines(disks: readonly { format: Format; device: string; image: string }[], mode: string): string[] {
    return disks.map(({ format, device, image }) => `${format.prefix}${image},${device.slice('/dev/'.length)},${mode}`);
  }

  start(host: TestHost, name: string, options: DeviceGuestOptions): Promise<ConsoleSession> {
    return startDeviceGuest(host, this.guest, name, options);
  }

  /** `xm destroy`, and that nothing of the domain's devices is left in the store. */
  async destroy(host: TestHost, name: string): Promise<void> {
    const domid = (await host.mustXm('domid', name)).trim();
    await host.mustXm('destroy', name);
    for (const kind of ['vbd', 'vif'])
      await until(`backend ${kind} of domain ${domid} is gone`, async () => {
        const { stdout } = await host.run('xenstore-list', `/local/domain/0/backend/${kind}/${domid}`);
        return stdout.trim() === '';
      });
  }
}

/** Runs a line in the guest's shell; throws with what it printed unless it succeeds. */
export async function must(shell: ConsoleSession, line: string, timeoutMs = COMMAND_TIMEOUT_MS): Promise<string> {
  // Echoed, the words are not those that are looked for.
  const output = await shell.command(`if ${line}; then echo went-''well; else echo went-''wrong; fi`, timeoutMs);
  assert(/^went-well/m.test(output), `${line}: ${tail(output)}`);
  return output;
}

export async function mustFail(shell: ConsoleSession, line: string): Promise<string> {
  const output = await shell.command(
    `if ${line}; then echo went-''well; else echo went-''wrong; fi`,
    COMMAND_TIMEOUT_MS,
  );
  assert(/^went-wrong/m.test(output), `${line} went well: ${tail(output)}`);
  return output;
}

const TAIL = 600;
const tail = (text: string): string => JSON.stringify(text.slice(-TAIL));

/** Runs `/files make|check`; the line that says how many files there are and the sum of all. */
export async function files(shell: ConsoleSession, verb: 'make' | 'check', device: string): Promise<string> {
  const output = await must(shell, `/files ${verb} ${device}`);
  const line = /^\d+ files, sum \w+/m.exec(output)?.[0];
  assert(line !== undefined && !/FAILED|WARNING/.test(output), tail(output));
  return line;
}

/** Asserts that a run of gio came to its end, and gives its figure. */
export function gioEnded(output: string): string {
  const line = /^GIO ops=.*/m.exec(output)?.[0];
  assert(line !== undefined, tail(output));
  return line.trim();
}
