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
}

export type PcpuMessage =
  | { readonly kind: 'doorbell' }
  /** A bug of ours that cost a domain its life. */
  | { readonly kind: 'bug'; readonly domid: number; readonly text: string }
  | { readonly kind: 'stopped' };
