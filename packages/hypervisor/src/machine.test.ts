/** A whole hypervisor in one thread: control plane, a pCPU with the real engine, a kernel in the guest. */
import { domid as toDomid, systemClock } from '@xenhost/base';
import type { EvtchnPort } from '@xenhost/base';
import { compileEngine, createEngine } from '@xenhost/cpu';
import { consoleShell, consoleShellPrompt } from '@xenhost/guest-kernels';
import { buildPvDomain, openXenctrl, ShutdownReason } from '@xenhost/libxenctrl';
import type { BuiltDomain } from '@xenhost/libxenctrl';
import { openMetrics } from '@xenhost/daemon-kit';
import { localPrivcmd } from '@xenhost/privcmd';
import { DOMID, Hypercall, MAX_PROFILE_HZ, PAGE_SIZE, TraceClass, TraceEvent } from '@xenhost/xen-abi';
import type { TraceWindow } from '@xenhost/xentrace';
import { recordsOf, TraceConsumer, TraceReader } from '@xenhost/xentrace';
import { HypervisorBackend } from './control/privcmd-backend.ts';
import { bootMachine, Machine } from './machine.ts';
import { MachineMemory } from './state/machine-memory.ts';

const MEMORY_BYTES = 64 * 2 ** 20;
const GUEST_KIB = 8 * 1024;
/** Offsets in the console page. */
const CONSOLE = { in: 0, out: 1024, inProd: 3076, outCons: 3080, outProd: 3084, inSize: 1024, outSize: 2048 };
/** Offsets in the xenstore page, and two of its operations. */
const STORE = { rsp: 1024, reqCons: 2048, reqProd: 2052, rspProd: 2060, size: 1024, read: 2, error: 16 };
/** Turns of the pCPU before a guest that says nothing is given up. */
const MAX_TURNS = 20_000;

// Real code in a real engine, on machines that may be busy.
jest.setTimeout(60_000);

const code = compileEngine();

class OneThreadHost {
  readonly machine: Machine;
  readonly pcpu: Machine;
  readonly xc: ReturnType<typeof openXenctrl>;
  readonly #loop: ReturnType<Machine['loop']>;

  constructor() {
    const memory = MachineMemory.allocate(MEMORY_BYTES);
    const common = { memory, clock: systemClock, nrPcpus: 1, commandLine: 'test' };
    bootMachine(common);
    const drain = (): void => void setImmediate(() => { backend.drainEvents(); }); // prettier-ignore
    const reportBug = (error: unknown): void => {
      throw error;
    };
    this.machine = new Machine({ ...common, pcpu: undefined }, { notifyControl: drain, reportBug });
    const backend = new HypervisorBackend(this.machine);
    this.machine.start();
    this.pcpu = new Machine(
      { ...common, pcpu: 0 },
      {
        createEngine: (host) =>
          createEngine(
            { trapMode: 'monitor', nrFrames: memory.nrFrames },
            { machineMemory: memory.memory, host, code },
          ),
        notifyControl: drain,
        reportBug,
      },
    );
    this.#loop = this.pcpu.loop();
    this.xc = openXenctrl(localPrivcmd({}, backend).open());
  }

  turn(): void {
    this.#loop.turn(false);
  }

  /** Gives the pCPU its turns until the tools have their answer. */
  async meanwhile<T>(request: Promise<T>): Promise<T> {
    let waiting = true;
    const answer = request.finally(() => (waiting = false));
    while (waiting) {
      this.turn();
      await new Promise((resolve) => setImmediate(resolve));
    }
    return answer;
  }

  async boot(): Promise<Guest> {
    const domid = await this.xc.domainCreate({ uuid: new Uint8Array(16), maxVcpus: 1 });
    await this.xc.domainMaxVcpus(domid, 1);
    await this.xc.domainSetmaxmem(domid, GUEST_KIB + 1024);
    const built = await buildPvDomain(this.xc, { domid, kernel: consoleShell(), memoryKiB: GUEST_KIB });
    const port = await this.xc.privcmd.bindInterdomain(toDomid(domid), built.consolePort);
    const storePort = await this.xc.privcmd.bindInterdomain(toDomid(domid), built.storePort);
    await this.xc.domainUnpause(domid);
    return new Guest(this, domid, built, { console: port, store: storePort });
  }

  async log(): Promise<string> {
    return (await this.xc.readconsolering()).text;
  }
}

interface Ports {
  readonly console: EvtchnPort;
  readonly store: EvtchnPort;
}

class Guest {
  readonly domid: number;
  readonly #host: OneThreadHost;
  readonly #built: BuiltDomain;
  readonly #ports: Ports;
  output = '';

  constructor(host: OneThreadHost, domid: number, built: BuiltDomain, ports: Ports) {
    this.#host = host;
    this.domid = domid;
    this.#built = built;
    this.#ports = ports;
  }

  /** Runs the pCPU until `done`, taking the console's output. */
  async until(done: () => Promise<boolean> | boolean): Promise<void> {
    for (let turn = 0; turn < MAX_TURNS; turn++) {
      if (await done()) return;
      this.#host.turn();
      await this.#drain();
      await this.#answerStore();
    }
    throw new Error(`the guest does not come: ${this.output}\n${await this.#host.log()}`);
  }

  async type(line: string): Promise<void> {
    const { xc } = this.#host;
    const mfn = this.#built.consoleMfn;
    const page = new DataView((await xc.readFrame(this.domid, mfn)).slice().buffer);
    let prod = page.getUint32(CONSOLE.inProd, true);
    for (const byte of Buffer.from(`${line}\r`)) {
      await xc.writeFrame(this.domid, mfn, CONSOLE.in + (prod % CONSOLE.inSize), Uint8Array.of(byte));
      prod++;
    }
    await xc.writeFrame(this.domid, mfn, CONSOLE.inProd, u32(prod));
    await xc.privcmd.notify(this.#ports.console);
  }

  async #answerStore(): Promise<void> {
    const { xc } = this.#host;
    const mfn = this.#built.storeMfn;
    const page = await xc.readFrame(this.domid, mfn);
    const view = new DataView(page.buffer, page.byteOffset);
    const cons = view.getUint32(STORE.reqCons, true);
    const at = (i: number): number => page[(cons + i) % STORE.size] ?? 0;
    const used = (view.getUint32(STORE.reqProd, true) - cons) >>> 0;
    const header = new DataView(Uint8Array.from({ length: 16 }, (_, i) => at(i)).buffer);
    const length = 16 + header.getUint32(12, true);
    if (used < 16 || used < length) return;
    let prod = view.getUint32(STORE.rspProd, true);
    for (const byte of storeReply(header)) {
      await xc.writeFrame(this.domid, mfn, STORE.rsp + (prod % STORE.size), Uint8Array.of(byte));
      prod++;
    }
    await xc.writeFrame(this.domid, mfn, STORE.rspProd, u32(prod));
    await xc.writeFrame(this.domid, mfn, STORE.reqCons, u32(cons + length));
    await xc.privcmd.notify(this.#ports.store);
  }

  async #drain(): Promise<void> {
    const { xc } = this.#host;
    const page = await xc.readFrame(this.domid, this.#built.consoleMfn);
    const view = new DataView(page.buffer, page.byteOffset);
    const prod = view.getUint32(CONSOLE.outProd, true);
    let cons = view.getUint32(CONSOLE.outCons, true);
    if (cons === prod) return;
    for (; cons !== prod; cons = (cons + 1) >>> 0)
      this.output += String.fromCharCode(page[CONSOLE.out + (cons % CONSOLE.outSize)] ?? 0);
    await xc.writeFrame(this.domid, this.#built.consoleMfn, CONSOLE.outCons, u32(prod));
    await xc.privcmd.notify(this.#ports.console);
  }
}

/** Requests to a xenstore that holds nothing: reads fail, all else is OK. */
function storeReply(request: DataView): Uint8Array {
  const isRead = request.getUint32(0, true) === STORE.read;
  const text = Buffer.from(isRead ? 'ENOENT\0' : 'OK\0');
  const reply = new Uint8Array(16 + text.length);
  new Uint8Array(reply.buffer).set(new Uint8Array(request.buffer, 0, 12));
  const view = new DataView(reply.buffer);
  if (isRead) view.setUint32(0, STORE.error, true);
  view.setUint32(12, text.length, true);
  reply.set(text, 16);
  return reply;
}

function u32(n: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, n, true);
  return bytes;
}

const shutDown = (host: OneThreadHost, guest: Guest) => async () => {
  const info = await host.xc.domainGetinfo(guest.domid);
  return info?.shutdown === true || info?.crashed === true;
};

test('a guest boots, answers on its console, powers off, and leaves nothing behind', async () => {
  const host = new OneThreadHost();
  const before = (await host.xc.physinfo()).freePages;
  const guest = await host.boot();
  await guest.until(() => guest.output.includes(consoleShellPrompt));
  await guest.type('echo hello there');
  await guest.until(() => guest.output.split('hello there').length === 3);
  const running = await host.xc.domainGetinfo(guest.domid);
  expect([running?.nrPages, running?.nrOnlineVcpus]).toEqual([GUEST_KIB / 4, 1]);
  expect(running?.cpuTimeNs).toBeGreaterThan(0n);
  await guest.type('poweroff');
  await guest.until(shutDown(host, guest));
  expect((await host.xc.domainGetinfo(guest.domid))?.shutdownReason).toBe(ShutdownReason.poweroff);
  await host.xc.domainDestroy(guest.domid);
  expect(await host.xc.domainGetinfo(guest.domid)).toBeUndefined();
  expect((await host.xc.physinfo()).freePages).toBe(before);
});

test('a guest that crashes crashes alone, its registers in the log', async () => {
  const host = new OneThreadHost();
  const [victim, other] = [await host.boot(), await host.boot()];
  await victim.until(() => victim.output.includes(consoleShellPrompt));
  await other.until(() => other.output.includes(consoleShellPrompt));
  await victim.type('crash');
  await victim.until(shutDown(host, victim));
  expect((await host.xc.domainGetinfo(victim.domid))?.crashed).toBe(true);
  const log = await host.log();
  expect(log).toMatch(/Domain 1 \(vcpu#0\) crashed on cpu#0:/);
  expect(log).toMatch(/RIP: {4}e033:\[<[0-9a-f]{16}>\]/);
  expect(log).toMatch(/Guest code around .*\n.*<0f> 0b/);
  await other.type('echo still here');
  await other.until(() => other.output.split('still here').length === 3);
});

test('a paused guest stands still, also for reading its registers', async () => {
  const host = new OneThreadHost();
  const guest = await host.boot();
  await guest.until(() => guest.output.includes(consoleShellPrompt));
  await host.xc.domainPause(guest.domid);
  const context = await host.meanwhile(host.xc.vcpuGetcontext(guest.domid, 0));
  for (let i = 0; i < 10; i++) host.turn();
  expect(await host.xc.vcpuGetcontext(guest.domid, 0)).toEqual(context);
  await host.xc.domainUnpause(guest.domid);
  await guest.type('echo back');
  await guest.until(() => guest.output.split('back').length === 3);
});

test("a guest's boot is counted, traced and sampled as tools see it", async () => {
  const host = new OneThreadHost();
  const { xc } = host;
  await expect(xc.profileSet(1000, DOMID.IDLE)).rejects.toMatchObject({ code: 'EINVAL' });
  const consumer = await TraceConsumer.claim(xc);
  await expect(TraceConsumer.claim(xc)).rejects.toThrow('another tool');
  await xc.tbufSetCpuMask(1n);
  const info = await xc.tbufEnable(16);
  expect(info).toMatchObject({ eventMask: TraceClass.ALL, sizeBytes: PAGE_SIZE });
  const reader = await TraceReader.open(xc, info);
  await xc.profileSet(MAX_PROFILE_HZ, DOMID.IDLE);
  await xc.perfcReset();
  const guest = await host.boot();
  await guest.until(() => guest.output.includes(consoleShellPrompt));
  const windows: TraceWindow[] = [];
  await consumer.poll({ pollMs: 1, seconds: 0 }, async (last) => {
    if (last) await xc.tbufDisable();
    windows.push(...(await reader.read()));
  });
  await consumer.release();
  expect(windows.map(({ cpu }) => cpu)).toEqual([0]);
  const records = windows.flatMap(({ cpu, bytes }) => [...recordsOf(bytes, cpu)]);
  expect(await reader.read()).toEqual([]);
  const named = (name: keyof typeof TraceEvent) => records.filter(({ event }) => event === TraceEvent[name]);
  expect(named('DOM0_DOM_ADD').map(({ data }) => data)).toEqual([[guest.domid]]);
  const mine = (guest.domid << 16) >>> 0;
  expect(
    records.find(({ event }) => (event & 0xf_f00f) === (TraceEvent.SCHED_RUNSTATE_CHANGE & 0xf_f00f))?.data,
  ).toEqual([mine]);
  expect(named('PROFILE_SAMPLE').length).toBeGreaterThan(0);
  expect(named('PROFILE_SAMPLE').every(({ data }) => data[0] === mine)).toBe(true);
  const counters = new Map((await xc.perfcQuery()).map(({ name, values }) => [name, values]));
  // The guest's, and none of those that tools make.
  const traced = named('PV_HYPERCALL_V2').map(({ data }) => (data[0] ?? 0) & 0xf_ffff);
  const counted = counters.get('hypercalls') ?? [];
  for (const op of [Hypercall.iret, Hypercall.sched_op, Hypercall.vm_assist])
    expect(traced.filter((number) => number === op).length).toBe(counted[op]);
  expect(traced.length).toBeGreaterThan(10);
  expect(traced).not.toContain(Hypercall.domctl);
  expect(counters.get('trace: lost records')).toEqual([0, 0]);
  expect((counters.get('sched: runs through scheduler') ?? [])[0]).toBeGreaterThan(0);
  const text = openMetrics(host.machine.metrics());
  expect(text).toMatch(new RegExp(`xen_vcpu_exits_total\\{domid="${guest.domid}",vcpu="0",cause="syscall"\\} [1-9]`));
  // No frame of Xen's but these is given to tools.
  await expect(xc.readFrame(DOMID.XEN, host.machine.core.map.header)).rejects.toMatchObject({ code: 'EINVAL' });
  await expect(xc.writeFrame(DOMID.XEN, info.mfn, 0, new Uint8Array(4))).rejects.toMatchObject({ code: 'EINVAL' });
});
