/**
 * The control plane of a host: machine memory, the pCPU workers, the privcmd server. What `main.ts` starts and stops.
 */
import { readFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { MessageChannel, Worker } from 'node:worker_threads';
import { systemClock } from '@xenhost/base';
import type { EngineBinaries, JitMode } from '@xenhost/cpu';
import { servePrivcmd } from '@xenhost/privcmd';
import type { PrivcmdServer } from '@xenhost/privcmd';
import { metricsBeside, serveMetrics } from '@xenhost/daemon-kit';
import type { Logger, UnixListener } from '@xenhost/daemon-kit';
import { bootMachine, Machine } from '../machine.ts';
import { compileEngine } from '../pcpu/engine.ts';
import type { CompilerMessage, CompilerStart, PcpuMessage, PcpuStart } from '../pcpu/messages.ts';
import { sharedCodeWords } from '../pcpu/shared-code.ts';
import { collectWhenQuiet } from '../pcpu/thread-heap.ts';
import { MachineMemory, MAX_MACHINE_BYTES } from '../state/machine-memory.ts';
import { MAX_PCPUS } from '../state/memory-map.ts';
import { PcpuRequest } from '../state/records.ts';
import { HypervisorBackend } from './privcmd-backend.ts';

export const MIN_MEMORY_MIB = 16;
export const MAX_MEMORY_MIB = MAX_MACHINE_BYTES / 2 ** 20;

export interface HostOptions {
  readonly memoryMiB: number;
  /** Number of pCPUs; default: the cores of the machine. */
  readonly nrPcpus?: number | undefined;
  /** Metrics are served beside it. */
  readonly privcmdPath: string;
  readonly commandLine: string;
  readonly jit: JitMode;
  /** The module that a pCPU's worker thread starts with. */
  readonly workerEntry: URL;
  /** The module that the thread that compiles for them starts with. */
  readonly compilerEntry: URL;
  /** Folder with the engine's Wasm as the build made it; without one it is generated. */
  readonly engineFolder: URL | undefined;
}

export interface HostModules {
  readonly log: Logger;
  /** The host cannot go on. */
  failed(reason: string): void;
}

export interface RunningHost {
  readonly nrPcpus: number;
  stop(): Promise<void>;
}

export async function startHost(options: HostOptions, modules: HostModules): Promise<RunningHost> {
  const { log } = modules;
  const nrPcpus = Math.min(options.nrPcpus ?? availableParallelism(), MAX_PCPUS);
  const memory = MachineMemory.allocate(options.memoryMiB * 2 ** 20);
  bootMachine({ memory, clock: systemClock, nrPcpus });
  let drainAsked = false;
  const drain = (): void => {
    if (drainAsked) return;
    drainAsked = true;
    setImmediate(() => {
      drainAsked = false;
      backend.drainEvents();
    });
  };
  const machine = new Machine(
    { memory, clock: systemClock, nrPcpus, pcpu: undefined, commandLine: options.commandLine },
    {
      notifyControl: drain,
      reportBug: (error, domid) => {
        log.error({ err: error, domid }, 'hypervisor bug');
      },
      cpuTimeNs: () => {
        const { user, system } = process.threadCpuUsage();
        return BigInt(user + system) * 1000n;
      },
    },
  );
  const backend = new HypervisorBackend(machine);
  machine.start();
  const server = await servePrivcmd(
    {
      path: options.privcmdPath,
      log: (event) => {
        if (event.kind === 'backendError')
          log.error({ err: event.error, request: event.request, connection: event.connection }, 'hypervisor bug');
        else log.warn(event, 'privcmd connection');
      },
    },
    backend,
  );
  const untold = (error: unknown): undefined => {
    log.error({ err: error }, 'metrics cannot be told');
  };
  const metrics = await serveMetrics(metricsBeside(options.privcmdPath), () => machine.metrics(), untold).catch(untold);
  log.info({ memoryMiB: options.memoryMiB, nrPcpus, privcmd: options.privcmdPath }, 'hypervisor is up');
  const threads = soon(() => {
    const engine = compileEngine(options.engineFolder && engineIn(options.engineFolder));
    const sharedCode = nrPcpus > 1 ? sharedCodeWords(nrPcpus) : undefined;
    const { commandLine, jit } = options;
    // With the JIT forced, code is compiled before its first execution.
    const compilers = jit === 'on' ? startCompiler(options.compilerEntry, nrPcpus, modules) : [];
    return Array.from({ length: nrPcpus }, (_, pcpu) => {
      const compiler = compilers[pcpu];
      const workerData: PcpuStart = {
        memory: memory.memory,
        nrPcpus,
        pcpu,
        commandLine,
        engine,
        jit,
        sharedCode,
        compiler,
      };
      return startPcpu(options.workerEntry, workerData, drain, modules);
    });
  });
  threads.catch((error: unknown) => {
    log.fatal({ err: error }, 'pCPUs cannot start');
    modules.failed('pCPUs cannot start');
  });
  collectWhenQuiet();
  return { nrPcpus, stop: async () => stopHost(machine, await threads, server, metrics) };
}

/** What `tools/build.mjs` wrote beside a bundle. */
const engineIn = (folder: URL): EngineBinaries => ({
  interpreter: readFileSync(new URL('interpreter.wasm', folder)),
  slow: readFileSync(new URL('slow.wasm', folder)),
});

/** Runs `body` in a later turn: the daemons that wait for this one start meanwhile, and what they ask is kept for it. */
const soon = <T>(body: () => T): Promise<T> =>
  new Promise((resolve, reject) => {
    setImmediate(() => {
      try {
        resolve(body());
      } catch (error) {
        reject(error instanceof Error ? error : new Error(String(error)));
      }
    });
  });

/** Node keeps what it read of the compile cache, more than a megabyte a thread; nobody waits for the start of one. */
const WORKER_ENV = { ...process.env, NODE_DISABLE_COMPILE_CACHE: '1' };

/** The thread that compiles for all pCPUs: what each of them is given of it. It ends with the process. */
function startCompiler(entry: URL, nrPcpus: number, modules: HostModules): NonNullable<PcpuStart['compiler']>[] {
  const done = new SharedArrayBuffer(4 * nrPcpus);
  const channels = Array.from({ length: nrPcpus }, () => new MessageChannel());
  const ports = channels.map(({ port1 }) => port1);
  const workerData: CompilerStart = { ports, done };
  const worker = new Worker(entry, { workerData, transferList: ports, name: 'compiler', env: WORKER_ENV });
  worker.unref();
  worker.on('message', ({ text }: CompilerMessage) => {
    modules.log.error({ stack: text }, 'hypervisor bug: code that cannot be compiled');
  });
  // Without it code is interpreted: slow, and right.
  worker.on('error', (error) => {
    modules.log.error({ err: error }, 'the thread that compiles failed');
  });
  return channels.map(({ port2 }) => ({ port: port2, done }));
}

interface PcpuThread {
  readonly worker: Worker;
  readonly ended: Promise<void>;
}

function startPcpu(entry: URL, start: PcpuStart, drain: () => void, modules: HostModules): PcpuThread {
  const { log } = modules;
  const worker = new Worker(entry, {
    workerData: start,
    transferList: start.compiler ? [start.compiler.port] : [],
    name: `pcpu${start.pcpu}`,
    env: WORKER_ENV,
  });
  const stopped = { value: false };
  worker.on('message', (message: PcpuMessage) => {
    if (message.kind === 'doorbell') drain();
    else if (message.kind === 'bug') log.error({ domid: message.domid, stack: message.text }, 'hypervisor bug');
    else {
      stopped.value = true;
      log.debug({ pcpu: start.pcpu }, 'pCPU stopped');
    }
  });
  worker.on('error', (error) => {
    log.fatal({ err: error, pcpu: start.pcpu }, 'pCPU failed');
    modules.failed(`pCPU ${start.pcpu} failed`);
  });
  const ended = new Promise<void>((resolve) => {
    worker.on('exit', () => {
      resolve();
      if (!stopped.value) modules.failed(`pCPU ${start.pcpu} ended`);
    });
  });
  return { worker, ended };
}

async function stopHost(
  machine: Machine,
  threads: readonly PcpuThread[],
  server: PrivcmdServer,
  metrics: UnixListener | undefined,
): Promise<void> {
  await Promise.all([server.close(), metrics?.close()]);
  threads.forEach((_, pcpu) => {
    machine.requests.post(pcpu, PcpuRequest.stop);
  });
  await Promise.all(threads.map(({ ended }) => ended));
}
