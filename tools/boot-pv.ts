/**
 * Boots one PV kernel on a hypervisor of its own, with nothing else of a host: no xend, xenstore only when asked for. Prints the guest's
 * console, takes what is typed, and Xen's log at the end. For work on the hypervisor and for measurements.
 *
 *   tools/node24 tools/boot-pv.ts KERNEL [--ramdisk FILE] [--cmdline TEXT] [--memory MIB] [--vcpus N] [--host-memory MIB]
 *     [--pcpus N] [--timeout SECONDS] [--until TEXT] [--xenstore] [--jit off|on|force]
 */
import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { domid as toDomid } from '@xenhost/base';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { hostPaths } from '@xenhost/daemon-kit';
import { connectPrivcmd } from '@xenhost/privcmd';
import { XENCONS_IN_SIZE, XENCONS_OUT_SIZE, XenconsInterface } from '@xenhost/xen-abi';
import { XenstoreClient } from '@xenhost/xenstore-client';

/** Places in the console page: input ring, output ring, their indices. */
const { offsets } = XenconsInterface;
const IN = { at: offsets.in, size: XENCONS_IN_SIZE, cons: offsets.in_cons, prod: offsets.in_prod };
const OUT = { at: offsets.out, size: XENCONS_OUT_SIZE, cons: offsets.out_cons, prod: offsets.out_prod };

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    ramdisk: { type: 'string' },
    cmdline: { type: 'string', default: 'console=hvc0' },
    memory: { type: 'string', default: '256' },
    vcpus: { type: 'string', default: '1' },
    'host-memory': { type: 'string', default: '1024' },
    pcpus: { type: 'string', default: '1' },
    timeout: { type: 'string', default: '120' },
    until: { type: 'string' },
    xenstore: { type: 'boolean', default: false },
    jit: { type: 'string' },
  },
});
const kernel = positionals[0];
if (!kernel) throw new Error('which kernel?');

const run = mkdtempSync(join(tmpdir(), 'xh-'));
const socket = join(run, 'privcmd.sock');
const env = { ...process.env, XENHOST_RUN: run, XENHOST_PRIVCMD: socket };
const daemons: ChildProcess[] = [];
process.on('exit', () => {
  for (const daemon of daemons) daemon.kill('SIGKILL');
});

/** Starts a daemon and waits for its ready line. */
async function start(path: string, args: readonly string[]): Promise<void> {
  const main = new URL(path, import.meta.url).pathname;
  const flags = [
    '--v8-pool-size=1',
    '--expose-gc',
    '--max-semi-space-size=4',
    '--wasm-tier-mask-for-testing=1',
    '--wasm-tiering-budget=2500000',
  ];
  const daemon = spawn(process.execPath, [...flags, main, ...args], { stdio: ['ignore', 'pipe', 'inherit'], env });
  daemons.unshift(daemon);
  await new Promise<void>((resolve, reject) => {
    daemon.stdout.once('data', () => {
      resolve();
    });
    daemon.once('exit', (code) => {
      reject(new Error(`${path} ended with ${code}`));
    });
  });
}
await start('../packages/hypervisor/src/main.ts', [
  '--memory', values['host-memory'], '--pcpus', values.pcpus, ...(values.jit === undefined ? [] : ['--jit', values.jit]),
]); // prettier-ignore
if (values.xenstore) await start('../packages/xenstored/src/main.ts', []);

const port = await connectPrivcmd(socket);
const xc = openXenctrl(port);
const started = performance.now();
const seconds = (): string => ((performance.now() - started) / 1000).toFixed(2);
const say = (text: string): void => void process.stderr.write(`[${seconds()}] ${text}\n`);

const domid = await xc.domainCreate({ uuid: new Uint8Array(16), maxVcpus: Number(values.vcpus) });
await xc.domainMaxVcpus(domid, Number(values.vcpus));
await xc.domainSetmaxmem(domid, Number(values.memory) * 1024 + 1024);
const built = await buildPvDomain(xc, {
  domid,
  kernel: readFileSync(kernel),
  ...(values.ramdisk ? { ramdisk: readFileSync(values.ramdisk) } : {}),
  cmdline: values.cmdline,
  memoryKiB: Number(values.memory) * 1024,
});
say(`built d${domid}: ${built.kernel.guestOs} ${built.kernel.guestVersion}`);
if (values.xenstore) await introduce();
const consolePort = await port.bindInterdomain(toDomid(domid), built.consolePort);

let output = '';
let finish: (why: string) => void = () => undefined;
const finished = new Promise<string>((resolve) => (finish = resolve));
let pumping = Promise.resolve();
const pump = (): void => {
  pumping = pumping
    .then(() => drain(xc))
    .catch((error: unknown) => {
      finish(`console: ${String(error)}`);
    });
};
port.onEvent((raised) => {
  if (raised === consolePort) pump();
});
// VIRQ_DOM_EXC is xenstored's: look by time.
const watching = setInterval(() => {
  void xc.domainGetinfo(domid).then((now) => {
    if (!now || now.shutdown || now.crashed) finish(`shutdown, reason ${now?.shutdownReason}`);
  });
}, 100);
process.stdin.on('data', (data: Buffer) => void type(xc, data));
setTimeout(
  () => {
    finish('timeout');
  },
  Number(values.timeout) * 1000,
);

await xc.domainUnpause(domid);
say('started');
say(await finished);
clearInterval(watching);
await pumping;
await drain(xc);
const info = await xc.domainGetinfo(domid);
if (info && !info.shutdown && !info.crashed) {
  await xc.sendDebugKeys('qr');
}
say(`CPU time ${Number(info?.cpuTimeNs ?? 0n) / 1e9} s`);
process.stderr.write((await xc.readconsolering()).text);
await xc.domainDestroy(domid);
await xc.close();
for (const daemon of daemons) {
  const ended = new Promise((resolve) => daemon.once('exit', resolve));
  daemon.kill('SIGTERM');
  await ended;
}
rmSync(run, { recursive: true, force: true });
process.exit(0);

/** What xend would have written for the domain, as far as a kernel needs it, and its ring made known to xenstored. */
async function introduce(): Promise<void> {
  const store = await XenstoreClient.connect({ path: hostPaths(env).xenstored });
  const home = `/local/domain/${domid}`;
  await store.mkdir(home);
  await store.setPerms(home, [{ domid, access: 'read' }]);
  for (const [key, value] of Object.entries({
    domid: String(domid),
    name: 'guest',
    'memory/target': String(Number(values.memory) * 1024),
    'control/platform-feature-xs_reset_watches': '1',
  }))
    await store.write(`${home}/${key}`, value);
  for (let i = 0; i < Number(values.vcpus); i++) await store.write(`${home}/cpu/${i}/availability`, 'online');
  for (const dir of ['device', 'control/shutdown', 'data', 'error']) {
    await store.write(`${home}/${dir}`, '');
    await store.setPerms(`${home}/${dir}`, [{ domid, access: 'none' }]);
  }
  await store.introduce(domid, built.storeMfn, built.storePort);
}

/** Takes what is in the output ring. */
async function drain(x: Xenctrl): Promise<void> {
  for (;;) {
    const page = await x.readFrame(domid, built.consoleMfn);
    const view = new DataView(page.buffer, page.byteOffset);
    const cons = view.getUint32(OUT.cons, true);
    const prod = view.getUint32(OUT.prod, true);
    if (cons === prod) return;
    const bytes = Uint8Array.from(
      { length: (prod - cons) >>> 0 },
      (_, i) => page[OUT.at + ((cons + i) % OUT.size)] ?? 0,
    );
    await x.writeFrame(domid, built.consoleMfn, OUT.cons, u32(prod));
    await x.privcmd.notify(consolePort);
    process.stdout.write(bytes);
    output = (output + Buffer.from(bytes).toString('latin1')).slice(-8192);
    if (values.until && output.includes(values.until)) finish(`saw "${values.until}"`);
  }
}

async function type(x: Xenctrl, data: Uint8Array): Promise<void> {
  const page = await x.readFrame(domid, built.consoleMfn);
  let prod = new DataView(page.buffer, page.byteOffset).getUint32(IN.prod, true);
  for (const byte of data) {
    await x.writeFrame(domid, built.consoleMfn, IN.at + (prod % IN.size), Uint8Array.of(byte));
    prod = (prod + 1) >>> 0;
  }
  await x.writeFrame(domid, built.consoleMfn, IN.prod, u32(prod));
  await x.privcmd.notify(consolePort);
}

function u32(n: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, n, true);
  return bytes;
}
