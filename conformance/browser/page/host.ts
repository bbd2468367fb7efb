/** A hypervisor in a browser: the control plane in this worker, a worker a pCPU, the toolstack over the in-process privcmd. */
import { domid as toDomid } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import type { JitMode } from '@xenhost/cpu';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import type { BuiltDomain, Xenctrl } from '@xenhost/libxenctrl';
import { localPrivcmd } from '@xenhost/privcmd';
import { appendToRing, copyFromRing, ringUsed, u32Bytes } from '@xenhost/pv-ring';
import type { PageWrite } from '@xenhost/pv-ring';
import { XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface } from '@xenhost/xen-abi';
import { HypervisorBackend } from '../../../packages/hypervisor/src/control/privcmd-backend.ts';
import { bootMachine, Machine } from '../../../packages/hypervisor/src/machine.ts';
import { compileEngine } from '../../../packages/hypervisor/src/pcpu/engine.ts';
import { MachineMemory } from '../../../packages/hypervisor/src/state/machine-memory.ts';
import { PcpuRequest } from '../../../packages/hypervisor/src/state/records.ts';
import { browserClock } from './clock.ts';
import { answerStore } from './empty-store.ts';
import { setImmediate } from './node-edge.ts';
import type { PcpuMessage, PcpuStart } from './pcpu.ts';
import { startWorker } from './scope.ts';
import type { PageWorker } from './scope.ts';

const NR_PCPUS = 1;
const POLL_MS = 10;
const { offsets } = XenconsInterface;

export interface GuestOptions {
  readonly kernel: Uint8Array;
  readonly ramdisk?: Uint8Array;
  readonly memoryKiB: number;
  readonly cmdline?: string;
}

export class BrowserHost {
  readonly xc: Xenctrl;
  readonly #machine: Machine;
  readonly #pcpus: readonly PageWorker[];
  readonly #stopped: Promise<void>;
  /** What a pCPU did not survive. */
  failure: string | undefined;

  constructor(options: { memoryMiB: number; jit: JitMode }) {
    const memory = MachineMemory.allocate(options.memoryMiB << 20);
    const common = { memory, clock: browserClock, nrPcpus: NR_PCPUS, commandLine: '' };
    bootMachine(common);
    const drain = (): void => {
      setImmediate(() => {
        backend.drainEvents();
      });
    };
    const reportBug = (error: unknown): void => {
      this.failure ??= String(error);
    };
    this.#machine = new Machine({ ...common, pcpu: undefined }, { notifyControl: drain, reportBug });
    const backend = new HypervisorBackend(this.#machine);
    this.#machine.start();
    const engine = compileEngine();
    const ended: Promise<void>[] = [];
    this.#pcpus = Array.from({ length: NR_PCPUS }, (_, pcpu) => {
      const worker = startWorker('pcpu.js', `pcpu${pcpu}`, reportBug);
      ended.push(
        new Promise((resolve) => {
          worker.onmessage = ({ data }) => {
            const message = data as PcpuMessage;
            if (message.kind === 'doorbell') drain();
            else if (message.kind === 'bug') reportBug(message.text);
            else resolve();
          };
        }),
      );
      const start: PcpuStart = { memory: memory.memory, engine, nrPcpus: NR_PCPUS, pcpu, jit: options.jit };
      worker.postMessage(start);
      return worker;
    });
    this.#stopped = Promise.all(ended).then(() => undefined);
    this.xc = openXenctrl(localPrivcmd({}, backend).open());
  }

  async boot(options: GuestOptions): Promise<Guest> {
    const { xc } = this;
    const { memoryKiB, kernel, ramdisk, cmdline } = options;
    const domid = await xc.domainCreate({ uuid: new Uint8Array(16), maxVcpus: 1 });
    await xc.domainMaxVcpus(domid, 1);
    await xc.domainSetmaxmem(domid, memoryKiB + 1024);
    const extra = { ...(ramdisk ? { ramdisk } : {}), ...(cmdline === undefined ? {} : { cmdline }) };
    const built = await buildPvDomain(xc, { domid, kernel, memoryKiB, ...extra });
    const consolePort = await xc.privcmd.bindInterdomain(toDomid(domid), built.consolePort);
    const storePort = await xc.privcmd.bindInterdomain(toDomid(domid), built.storePort);
    await xc.domainUnpause(domid);
    return new Guest(this, { domid, built, consolePort, storePort });
  }

  /** Ends the pCPUs as `stopHost` of the hypervisor does. */
  async stop(): Promise<void> {
    this.#pcpus.forEach((_, pcpu) => {
      this.#machine.requests.post(pcpu, PcpuRequest.stop);
    });
    await this.#stopped;
    for (const worker of this.#pcpus) worker.terminate();
  }
}

interface GuestParts {
  readonly domid: number;
  readonly built: BuiltDomain;
  readonly consolePort: EvtchnPort;
  readonly storePort: EvtchnPort;
}

export class Guest {
  readonly domid: number;
  output = '';
  readonly #host: BrowserHost;
  readonly #parts: GuestParts;

  constructor(host: BrowserHost, parts: GuestParts) {
    this.#host = host;
    this.domid = parts.domid;
    this.#parts = parts;
  }

  /** Takes the console's output until `done`. */
  async until(what: string, timeoutMs: number, done: () => Promise<boolean> | boolean): Promise<void> {
    for (const deadline = performance.now() + timeoutMs; !(await done());) {
      if (this.#host.failure !== undefined) throw new Error(`${what}: ${this.#host.failure}`);
      if (performance.now() > deadline) {
        const { text } = await this.#host.xc.readconsolering();
        throw new Error(
          `not within ${timeoutMs} ms: ${what}; console: ${this.output.slice(-500)}; Xen: ${text.slice(-500)}`,
        );
      }
      await new Promise((resolve) => setTimeout(resolve, POLL_MS));
      await this.#takeOutput();
      await this.#answer(this.#parts.built.storeMfn, this.#parts.storePort, answerStore);
    }
  }

  /** Waits for `text` after what was taken by the last call. */
  async expect(text: string, timeoutMs: number): Promise<string> {
    await this.until(`console shows '${text}'`, timeoutMs, () => this.output.includes(text));
    const end = this.output.indexOf(text) + text.length;
    const seen = this.output.slice(0, end);
    this.output = this.output.slice(end);
    return seen;
  }

  async type(line: string): Promise<void> {
    const ring = { base: offsets.in, size: XENCONS_IN_SIZE, prodOffset: offsets.in_prod };
    const data = Uint8Array.from(`${line}\r`, (char) => char.charCodeAt(0));
    await this.#answer(this.#parts.built.consoleMfn, this.#parts.consolePort, (page) =>
      appendToRing(ring, page.getUint32(offsets.in_prod, true), data),
    );
  }

  async #takeOutput(): Promise<void> {
    await this.#answer(this.#parts.built.consoleMfn, this.#parts.consolePort, (page) => {
      const cons = page.getUint32(offsets.out_cons, true);
      const prod = page.getUint32(offsets.out_prod, true);
      const used = ringUsed(prod, cons, XENCONS_OUT_SIZE) ?? 0;
      const ring = new Uint8Array(page.buffer, offsets.out, XENCONS_OUT_SIZE);
      for (const byte of copyFromRing(ring, cons, used)) this.output += String.fromCharCode(byte);
      return used === 0 ? [] : [{ offset: offsets.out_cons, data: u32Bytes(prod) }];
    });
  }

  /** Reads a ring page of the guest, writes the answer to it and tells the guest, when there is one. */
  async #answer(mfn: number, port: EvtchnPort, work: (page: DataView) => readonly PageWrite[]): Promise<void> {
    const { xc } = this.#host;
    const writes = work(new DataView((await xc.readFrame(this.domid, mfn)).slice().buffer));
    for (const { offset, data } of writes) await xc.writeFrame(this.domid, mfn, offset, data);
    if (writes.length > 0) await xc.privcmd.notify(port);
  }
}
