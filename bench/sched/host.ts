/** A hypervisor without a host around it, and guests on it whose kernels need neither xenstore nor a console. */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import type { BuiltDomain, Xenctrl } from '@xenhost/libxenctrl';
import { connectPrivcmd } from '@xenhost/privcmd';
import { program } from '@xenhost/xenhost';

const GUEST_KIB = 8 * 1024;
const HOST_MIB = 128;
const NODE_FLAGS = ['--v8-pool-size=1', '--wasm-tier-mask-for-testing=1'];

export class BareHost {
  readonly xc: Xenctrl;
  readonly #daemon: ChildProcess;
  readonly #directory: string;

  private constructor(daemon: ChildProcess, directory: string, xc: Xenctrl) {
    this.#daemon = daemon;
    this.#directory = directory;
    this.xc = xc;
  }

  static async start(pcpus: number): Promise<BareHost> {
    const directory = mkdtempSync(join(tmpdir(), 'xh-'));
    const socket = join(directory, 'privcmd.sock');
    const { command, args } = program('hypervisor', 'main', NODE_FLAGS);
    const own = ['--memory', String(HOST_MIB), '--pcpus', String(pcpus), '--privcmd', socket];
    const env = { ...process.env, XENHOST_RUN: directory };
    const daemon = spawn(command, [...args, ...own], { stdio: ['ignore', 'pipe', 'ignore'], env });
    process.once('exit', () => daemon.kill('SIGKILL'));
    await new Promise<void>((resolve, reject) => {
      daemon.stdout.once('data', () => {
        resolve();
      });
      daemon.once('exit', (code) => {
        reject(new Error(`the hypervisor ended with ${String(code)}`));
      });
    });
    daemon.stdout.resume();
    return new BareHost(daemon, directory, openXenctrl(await connectPrivcmd(socket)));
  }

  async boot(kernel: Uint8Array): Promise<BenchGuest> {
    const { xc } = this;
    const domid = await xc.domainCreate({ uuid: new Uint8Array(16), maxVcpus: 1 });
    await xc.domainMaxVcpus(domid, 1);
    await xc.domainSetmaxmem(domid, GUEST_KIB + 1024);
    const built = await buildPvDomain(xc, { domid, kernel, memoryKiB: GUEST_KIB });
    await xc.domainUnpause(domid);
    return new BenchGuest(xc, domid, built);
  }

  /** CPU time of the hypervisor's process and all its threads, in ns. */
  cpuNs(): number {
    const tasks = `/proc/${String(this.#daemon.pid)}/task`;
    return readdirSync(tasks)
      .map((task) => Number(readFileSync(join(tasks, task, 'schedstat'), 'utf8').split(' ')[0]))
      .reduce((sum, ns) => sum + ns, 0);
  }

  async stop(): Promise<void> {
    await this.xc.close();
    const ended = new Promise((resolve) => this.#daemon.once('exit', resolve));
    this.#daemon.kill('SIGTERM');
    await ended;
    rmSync(this.#directory, { recursive: true, force: true });
  }
}

export class BenchGuest {
  readonly domid: number;
  readonly #xc: Xenctrl;
  readonly #built: BuiltDomain;

  constructor(xc: Xenctrl, domid: number, built: BuiltDomain) {
    this.#xc = xc;
    this.domid = domid;
    this.#built = built;
  }

  /** Time that it has been on pCPUs, in ns. */
  async cpuTimeNs(): Promise<number> {
    return Number((await this.#xc.domainGetinfo(this.domid))?.cpuTimeNs ?? 0n);
  }

  /** The page that the guest writes its findings to. */
  async page(): Promise<DataView> {
    const bytes = await this.#xc.readFrame(this.domid, this.#built.storeMfn);
    return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }
}
