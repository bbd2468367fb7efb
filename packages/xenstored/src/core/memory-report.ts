/** `control memreport`: what takes memory, as text. */
import type { XenstoreCore } from './core.ts';

export function memoryReport(core: XenstoreCore): string {
  let nodes = 0;
  let output = 0;
  let touched = 0;
  for (const [, account] of core.accounts.entries()) nodes += account.nodes;
  for (const connection of core.connections) {
    output += connection.output.bytes;
    for (const transaction of connection.transactions.values()) touched += transaction.touched.size;
  }
  const rows: readonly (readonly [string, number])[] = [
    ['nodes', nodes],
    ['connections', core.connections.size],
    ['watches', core.events.index.size],
    ['transactions', core.nrTransactions],
    ['nodes in transactions', touched],
    ['bytes to send', output],
  ];
  const lines = rows.map(([label, n]) => `${label.padEnd(24)} ${String(n).padStart(10)}\n`);
  const domains = [...core.accounts.entries()]
    .sort(([, a], [, b]) => b.memory - a.memory)
    .map(
      ([domid, a]) => `domain ${String(domid).padEnd(17)} ${String(a.memory).padStart(10)} bytes, ${a.nodes} nodes\n`,
    );
  return `xenstored memory\n${lines.join('')}${domains.join('')}`;
}
