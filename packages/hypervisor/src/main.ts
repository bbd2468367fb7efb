/** Process entry of the hypervisor. */
import { hostPaths, parseDaemonArgs, runDaemon, UsageError } from '@xenhost/daemon-kit';
import { jitMode } from './pcpu/engine.ts';
import { optimiseEngineAtOnce } from './pcpu/tier.ts';
import { MAX_MEMORY_MIB, MIN_MEMORY_MIB, startHost } from './control/host.ts';

/** This is `tools/build.mjs`'s bundle, not the sources. */
const isBundle = !import.meta.url.endsWith('.ts');

optimiseEngineAtOnce();
runDaemon('hypervisor', async ({ log, shutdown }) => {
  const args = parseDaemonArgs('hypervisor', {
    memory: { type: 'number', default: 1024, help: `machine memory in MiB, ${MIN_MEMORY_MIB} to ${MAX_MEMORY_MIB}` },
    pcpus: { type: 'number', help: 'number of physical CPUs (default: the cores of this machine)' },
    jit: { type: 'string', help: 'off, on or force: which guest code is compiled (default: XENHOST_JIT, else on)' },
    privcmd: { type: 'string', help: 'Unix socket to listen on' },
    'pcpu-entry': { type: 'string', help: 'module that a pCPU thread starts with' },
  });
  const jitText = args.jit ?? process.env['XENHOST_JIT'] ?? 'on';
  const jit = jitMode(jitText);
  if (!jit) throw new UsageError(`hypervisor: --jit wants off, on or force, not '${jitText}'`);
  const host = await startHost(
    {
      memoryMiB: args.memory,
      nrPcpus: args.pcpus,
      privcmdPath: args.privcmd ?? hostPaths().privcmd,
      commandLine: process.argv.slice(2).join(' '),
      jit,
      workerEntry: new URL(args['pcpu-entry'] ?? defaultWorkerEntry(), import.meta.url),
      compilerEntry: new URL(isBundle ? './compile-worker.mjs' : './pcpu/compiler.ts', import.meta.url),
      engineFolder: isBundle ? new URL('./engine/', import.meta.url) : undefined,
    },
    {
      log,
      failed: (reason) => {
        shutdown(reason, 1);
      },
    },
  );
  return { stop: () => host.stop(), ready: { pcpus: host.nrPcpus } };
});

/** Beside this file: in sources `pcpu/worker.ts`, in a bundle `pcpu-worker.mjs`. */
function defaultWorkerEntry(): string {
  return isBundle ? './pcpu-worker.mjs' : './pcpu/worker.ts';
}
