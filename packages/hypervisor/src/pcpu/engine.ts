/** The engine of a pCPU: PV guests, every trap to the hypervisor. */
import { createEngine, ExitReason } from '@xenhost/cpu';
import type { Engine, EngineHost, EngineModules, JitMode } from '@xenhost/cpu';
import type { MachineMemory } from '../state/machine-memory.ts';

export { compileEngine } from '@xenhost/cpu';

const jitModes: Readonly<Record<JitMode, true>> = { off: true, on: true, force: true };

/** A JIT mode as an option names it; undefined for any other text. */
export const jitMode = (text: string): JitMode | undefined =>
  Object.hasOwn(jitModes, text) ? (text as JitMode) : undefined;

/** `code`: as `compileEngine` gave it, on whatever thread. */
export function engineFactory(
  memory: MachineMemory,
  code: EngineModules,
  jit: JitMode,
  sharing?: Pick<EngineHost, 'shareRegions' | 'takeRegions' | 'orderCompilation' | 'takeCompiled'>,
): (host: EngineHost) => Engine {
  const options = { trapMode: 'monitor', nrFrames: memory.nrFrames, jit } as const;
  return (host) => createEngine(options, { machineMemory: memory.memory, host: { ...host, ...sharing }, code });
}

/** Just past the end of the code segment that an engine is made with. */
const OUTSIDE_CODE = 0x10000n;

/**
 * Has V8 compile the interpreter's loop, which it does at the first run of any engine of that code: half a second that the
 * first guest would wait. The run touches no memory: it ends in the fault of its first fetch. To be called before `load`.
 */
export function warmUp(engine: Engine): void {
  engine.state.rip = OUTSIDE_CODE;
  const reason = engine.run(1);
  if (reason !== ExitReason.exception) throw new Error(`an engine that has nothing to run left with ${reason}`);
}
