/**
 * What looking at a host costs: a guest that only makes hypercalls, on a hypervisor in this thread, with nothing looked at, with
 * tracing of everything (and a reader that keeps up), and with sampling. CPU time of the thread for each hypercall; the modes take
 * turns, the best of each counts, the ratio is to nothing.
 *   --rounds N       default 5
 *   --hypercalls N   of a round, default 200000
 */
import { parseArgs } from 'node:util';
import { systemClock } from '@xenhost/base';
import { createEngine } from '@xenhost/cpu';
import { buildPvDomain, openXenctrl } from '@xenhost/libxenctrl';
import type { Xenctrl } from '@xenhost/libxenctrl';
import { localPrivcmd } from '@xenhost/privcmd';
import { DOMID, TraceClass } from '@xenhost/xen-abi';
import { TraceReader } from '@xenhost/xentrace';
import { guestKernel, hypercall } from '../../packages/guest-kernels/src/runtime.ts';
import { HypervisorBackend } from '../../packages/hypervisor/src/control/privcmd-backend.ts';
import { bootMachine, Machine } from '../../packages/hypervisor/src/machine.ts';
import { MachineMemory } from '../../packages/hypervisor/src/state/machine-memory.ts';
import { DomainFlag } from '../../packages/hypervisor/src/state/records.ts';
import { figure } from '../lib/figures.ts';

const MEMORY_BYTES = 256 << 20;
const GUEST_KIB = 8192;
/** They hold what one turn of the pCPU traces. */
const TRACE_PAGES = 256;
const SAMPLE_HZ = 997;

const kernel = (hypercalls: number): Uint8Array =>
  guestKernel(
    'hypercalls',
    `
main:
    mov ebx, ${hypercalls}
.again:
    xor edi, edi
    xor esi, esi
    ${hypercall('xen_version')}
    dec ebx
    jne .again
    ret
`,
  );

type Mode = 'nothing' | 'tracing' | 'sampling';

/** Both halves of a hypervisor over one memory, in this thread. */
function build(): { readonly xc: Xenctrl; readonly pcpu: Machine } {
  const memory = MachineMemory.allocate(MEMORY_BYTES);
  const common = { memory, clock: systemClock, nrPcpus: 1, commandLine: 'bench' };
  bootMachine(common);
  const reportBug = (error: unknown): void => {
    throw error;
  };
  const control = new Machine({ ...common, pcpu: undefined }, { notifyControl: () => undefined, reportBug });
  control.start();
  const pcpu = new Machine(
    { ...common, pcpu: 0 },
    {
      createEngine: (host) =>
        createEngine(
          { trapMode: 'monitor', nrFrames: memory.nrFrames, jit: 'off' },
          { machineMemory: memory.memory, host },
        ),
      notifyControl: () => undefined,
      reportBug,
    },
  );
  return { xc: openXenctrl(localPrivcmd({}, new HypervisorBackend(control)).open()), pcpu };
}

async function look(xc: Xenctrl, mode: Mode): Promise<void> {
  await xc.tbufDisable();
  if (mode === 'nothing') return;
  await xc.tbufSetEvtMask(mode === 'tracing' ? TraceClass.ALL : TraceClass.PROFILE);
  await xc.tbufEnable(TRACE_PAGES);
  if (mode === 'sampling') await xc.profileSet(SAMPLE_HZ, DOMID.IDLE);
}

export async function run(argv: readonly string[]): Promise<number> {
  const { values } = parseArgs({
    args: [...argv],
    options: { rounds: { type: 'string', default: '5' }, hypercalls: { type: 'string', default: '200000' } },
  });
  const [rounds, hypercalls] = [Number(values.rounds), Number(values.hypercalls)];
  const { xc, pcpu } = build();
  const loop = pcpu.loop();
  const reader = await TraceReader.open(xc, await xc.tbufEnable(TRACE_PAGES));
  const image = kernel(hypercalls);

  /** Nanoseconds of CPU for each hypercall; what reads the trace is not counted. */
  const measure = async (mode: Mode): Promise<number> => {
    const domid = await xc.domainCreate({ uuid: new Uint8Array(16), maxVcpus: 1 });
    await xc.domainMaxVcpus(domid, 1);
    await xc.domainSetmaxmem(domid, GUEST_KIB + 1024);
    await buildPvDomain(xc, { domid, kernel: image, memoryKiB: GUEST_KIB });
    await look(xc, mode);
    await xc.domainUnpause(domid);
    let micros = 0;
    const ended = DomainFlag.shutdown | DomainFlag.shuttingDown;
    while (((pcpu.table.lookup(domid)?.v.flags ?? ended) & ended) === 0) {
      const before = process.threadCpuUsage();
      loop.turn(false);
      const { user, system } = process.threadCpuUsage(before);
      micros += user + system;
      if (mode !== 'nothing') await reader.read();
    }
    // It leaves its pCPU, and goes.
    loop.turn(false);
    await xc.domainDestroy(domid);
    return (micros * 1000) / hypercalls;
  };

  const modes: readonly Mode[] = ['nothing', 'tracing', 'sampling'];
  const best = new Map<Mode, number>(modes.map((mode) => [mode, Infinity]));
  await measure('nothing');
  for (let round = 0; round < rounds; round++)
    for (const mode of modes) best.set(mode, Math.min(best.get(mode) ?? Infinity, await measure(mode)));
  const base = best.get('nothing') ?? Infinity;
  const lost = (await xc.perfcQuery()).find(({ name }) => name === 'trace: lost records')?.values[0];
  for (const mode of modes) {
    const ns = best.get(mode) ?? Infinity;
    figure(`hypercall-${mode}`, { ns, 'ratio-to-nothing': ns / base, rounds, ...(mode === 'tracing' && { lost }) });
  }
  return 0;
}
