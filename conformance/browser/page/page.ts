/** The page: runs each worker of cases in turn and sends their rows to the server that this page came from. */
import type { JitMode } from '@xenhost/cpu';
import { scope, startWorker } from './scope.ts';
import type { CasesMessage, CasesStart, KernelCase, Row } from './scope.ts';

export interface PageOptions {
  readonly jit: readonly JitMode[];
  readonly kernel: KernelCase | undefined;
}

const post = (path: string, body: unknown): Promise<unknown> =>
  fetch(path, { method: 'POST', body: JSON.stringify(body) });
const row = (name: string, passed: boolean, detail: string): Promise<unknown> =>
  post('/row', { name, passed, detail } satisfies Row);

async function runWorker(script: string, start: CasesStart): Promise<void> {
  const rows: Promise<unknown>[] = [];
  await new Promise<void>((resolve) => {
    const worker = startWorker(script, script, (text) => {
      rows.push(row(`jit ${start.jit}: ${script}`, false, text));
      resolve();
    });
    worker.onmessage = ({ data }) => {
      const message = data as CasesMessage;
      if (message.kind === 'row') rows.push(post('/row', message.row));
      else {
        worker.terminate();
        resolve();
      }
    };
    worker.postMessage(start);
  });
  await Promise.all(rows);
}

const { jit: modes, kernel } = (await (await fetch('/options')).json()) as PageOptions;
await row('the page may share memory', scope.crossOriginIsolated, 'crossOriginIsolated');
for (const jit of modes)
  for (const script of ['engine-cases.js', 'guest-cases.js']) await runWorker(script, { jit, kernel });
await post('/done', null);
