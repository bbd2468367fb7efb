import type { MessagePort } from 'node:worker_threads';
import type { EngineModules, JitMode } from '@xenhost/cpu';

/** What the control plane gives a pCPU's worker, and what that tells. */
export interface PcpuStart {
  readonly memory: WebAssembly.Memory;
  readonly nrPcpus: number;
  readonly pcpu: number;
  readonly commandLine: string;
  /** The engine's compiled Wasm, shared by all pCPUs. */
  readonly engine: EngineModules;
  readonly jit: JitMode;
  /** `sharedCodeWords`, where there are others to share compiled code with. */
  readonly sharedCode: SharedArrayBuffer | undefined;
  /** Where code is compiled for this pCPU, and the words that say how much was: absent without a JIT tier. */
  readonly compiler: { readonly port: MessagePort; readonly done: SharedArrayBuffer } | undefined;
}

/** What the thread that compiles is given: a port and a word of `done` for each pCPU. */
export interface CompilerStart {
  readonly ports: readonly MessagePort[];
  readonly done: SharedArrayBuffer;
}

export type PcpuMessage =
  | { readonly kind: 'doorbell' }
  /** A bug of ours that cost a domain its life. */
  | { readonly kind: 'bug'; readonly domid: number; readonly text: string }
  | { readonly kind: 'stopped' };

/** From the thread that compiles: a bug of ours; the code it was about stays interpreted. */
export interface CompilerMessage {
  readonly kind: 'bug';
  readonly text: string;
}
