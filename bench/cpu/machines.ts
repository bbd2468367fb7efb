/** The machines that are compared. Each is a shell on a console that knows the command `/line`. */
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ConsoleSession, TestHost } from '@xenhost/testkit';
import { benchGuest, MEMORY_MIB, QUICK_BOOT } from './guests.ts';
import { startV86 } from './v86.ts';

export const machineNames = ['ours', 'tcg', 'v86', 'native'] as const;
export type MachineName = (typeof machineNames)[number];

export interface Machine {
  /** Runs a shell command and gives what was printed. */
  command(line: string, timeoutMs: number): Promise<string>;
  stop(): Promise<void>;
}

export interface MachineOptions {
  readonly tools: string;
  readonly jit: string | undefined;
  readonly vcpus: number;
}

export const READY = /GUEST-READY.*/;
export const BOOT_TIMEOUT_MS = 300_000;
const HOST_MEMORY_MIB = 1024;

export const startMachine: Readonly<Record<MachineName, (options: MachineOptions) => Promise<Machine>>> = {
  async ours({ tools, jit, vcpus }) {
    const guest = await benchGuest('cloud', tools);
    const host = await TestHost.start({ jit, memoryMiB: HOST_MEMORY_MIB });
    try {
      const { kernel, ramdisk } = guest;
      const console = await createGuest(host, 'bench', { kernel, ramdisk, vcpus });
      return { command: (line, timeoutMs) => console.command(line, timeoutMs), stop: () => host.stop() };
    } catch (error) {
      await host.stop();
      throw error;
    }
  },
  async tcg({ tools, vcpus }) {
    const { kernel, ramdisk } = await benchGuest('cloud', tools);
    return booted(startTcg({ kernel, ramdisk, extra: QUICK_BOOT, vcpus }));
  },
  async v86({ tools }) {
    return booted(await startV86(await benchGuest('686-pae', tools)));
  },
  async native({ tools }) {
    const { gbench, line, busybox } = await benchGuest('cloud', tools);
    const directory = mkdtempSync(join(tmpdir(), 'xh-'));
    for (const [name, data] of Object.entries({ gbench, line })) {
      writeFileSync(join(directory, name), data);
      chmodSync(join(directory, name), 0o755);
    }
    symlinkSync(busybox, join(directory, 'busybox'));
    const env = { PATH: directory, BB: busybox };
    const console = new ConsoleSession(spawn(busybox, ['sh'], { env, stdio: 'pipe' }));
    const sh = `${busybox} sh ${directory}`;
    return {
      command: (text, timeoutMs) => console.command(text.replaceAll(/(^| )\/line /g, `$1${sh}/line `), timeoutMs),
      stop: () => {
        console.close();
        rmSync(directory, { recursive: true, force: true });
        return Promise.resolve();
      },
    };
  },
};

async function booted(console: ConsoleSession): Promise<Machine> {
  try {
    await console.expect(READY, BOOT_TIMEOUT_MS);
  } catch (error) {
    console.close();
    throw error;
  }
  return {
    command: (line, timeoutMs) => console.command(line, timeoutMs),
    stop: () => {
      console.close();
      return Promise.resolve();
    },
  };
}

export interface GuestOptions {
  readonly kernel: string;
  readonly ramdisk: string;
  readonly vcpus?: number;
  readonly memoryMiB?: number;
  readonly extra?: string;
}

/** `xm create` of a Linux guest; resolves to its console once it is ready. */
export async function createGuest(host: TestHost, name: string, options: GuestOptions): Promise<ConsoleSession> {
  const { kernel, ramdisk, vcpus = 1, memoryMiB = MEMORY_MIB, extra = QUICK_BOOT } = options;
  const settings = {
    kernel,
    ramdisk,
    vcpus,
    memory: memoryMiB,
    extra: `console=hvc0 ${extra}`,
    on_poweroff: 'destroy',
  };
  await host.mustXm('create', '-q', host.config(name, settings));
  const console = host.console(name);
  await console.expect(READY, BOOT_TIMEOUT_MS);
  return console;
}

/** A machine of Debian's qemu-system-x86; its serial console is standard input and output. A kernel that is ELF starts at its PVH entry. */
export function startTcg({
  kernel,
  ramdisk,
  vcpus = 1,
  memoryMiB = MEMORY_MIB,
  extra = QUICK_BOOT,
}: GuestOptions): ConsoleSession {
  const args = [
    ...['-accel', vcpus > 1 ? 'tcg,thread=multi' : 'tcg', '-smp', String(vcpus), '-m', String(memoryMiB)],
    ...['-display', 'none', '-monitor', 'none', '-serial', 'stdio', '-no-reboot'],
    ...['-kernel', kernel, '-initrd', ramdisk, '-append', `console=ttyS0 ${extra}`],
  ];
  return new ConsoleSession(spawn('qemu-system-x86_64', args, { stdio: 'pipe' }));
}

/** Throws, saying what to install, where a machine that was asked for cannot be had. */
export async function checkMachines(names: readonly MachineName[]): Promise<void> {
  const needs: readonly (readonly [MachineName, string, string])[] = [
    ['tcg', 'qemu-system-x86_64', 'apt-get install qemu-system-x86'],
    ['v86', 'npm', 'it comes with Node'],
  ];
  for (const [machine, command, advice] of needs) {
    if (names.includes(machine) && !(await runs(command)))
      throw new Error(`no ${command} on this machine (${advice}); --machines without ${machine} goes without it`);
  }
}

async function runs(command: string): Promise<boolean> {
  const child: ChildProcessWithoutNullStreams = spawn(command, ['--version']);
  const failed = once(child, 'error').then(() => false);
  const ended = once(child, 'close').then(() => true);
  return Promise.race([failed, ended]);
}
