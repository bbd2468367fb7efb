/** What a page and its workers find in their global scope, as far as this run uses it; the `dom` lib is not pulled in for it. */
import type { JitMode } from '@xenhost/cpu';

interface MessageEnd {
  postMessage(message: unknown): void;
  onmessage: ((event: { readonly data: unknown }) => void) | null;
}

export interface PageWorker extends MessageEnd {
  onerror:
    ((event: { readonly message?: string; readonly filename?: string; readonly lineno?: number }) => void) | null;
  terminate(): void;
}

interface Scope extends MessageEnd {
  readonly Worker: new (url: string, options: { type: 'module'; name: string }) => PageWorker;
  readonly MessageChannel: new () => { readonly port1: MessageEnd; readonly port2: MessageEnd };
  /** SharedArrayBuffer may be posted. */
  readonly crossOriginIsolated: boolean;
}

export const scope = globalThis as unknown as Scope;

/** One worker with its failures as a row. */
export function startWorker(script: string, name: string, failed: (text: string) => void): PageWorker {
  const worker = new scope.Worker(script, { type: 'module', name });
  worker.onerror = ({ message = 'did not start', filename = script, lineno = 0 }) => {
    failed(`${name}: ${message} (${filename}:${lineno})`);
  };
  return worker;
}

/** A row of the report, from whatever thread of the browser. */
export interface Row {
  readonly name: string;
  readonly passed: boolean;
  readonly detail: string;
}

/** What a worker that runs cases is told, and what it tells. */
export interface CasesStart {
  readonly jit: JitMode;
  readonly kernel: KernelCase | undefined;
}
/** A kernel fetched from this run's server, and the text that its console must show. */
export interface KernelCase {
  readonly cmdline: string;
  readonly memoryMiB: number;
  readonly until: string;
  readonly hasRamdisk: boolean;
  readonly timeoutMs: number;
}
export type CasesMessage = { readonly kind: 'row'; readonly row: Row } | { readonly kind: 'done' };

/** Runs the body; what it throws fails the row. */
export async function runCase(name: string, body: () => Promise<string> | string): Promise<void> {
  const started = performance.now();
  const tell = (passed: boolean, detail: string): void => {
    const message: CasesMessage = { kind: 'row', row: { name, passed, detail } };
    scope.postMessage(message);
  };
  try {
    const detail = await body();
    tell(true, `${detail} (${Math.round(performance.now() - started)} ms)`.trimStart());
  } catch (error) {
    tell(false, error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
}

export function expectEqual(what: string, actual: unknown, expected: unknown): void {
  if (actual !== expected) throw new Error(`${what}: ${String(actual)} instead of ${String(expected)}`);
}
