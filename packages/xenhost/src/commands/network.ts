/** `xenhost network`: bridges, ports and addresses, as `brctl show` and `brctl showmacs` tell them of Linux' bridges. */
import { askNetback, textOf } from './netback.ts';
import type { Values } from './options.ts';

interface Told {
  readonly bridges: readonly {
    readonly name: string;
    readonly ports: readonly {
      readonly name: string;
      readonly kind: string;
      readonly counters: {
        readonly inFrames: number;
        readonly inBytes: number;
        readonly outFrames: number;
        readonly outBytes: number;
        readonly dropped: Readonly<Record<string, number>>;
      };
    }[];
    readonly macs: readonly {
      readonly mac: string;
      readonly port: string;
      readonly pinned: boolean;
      readonly ageMs: number;
    }[];
  }[];
}

export async function network(values: Values): Promise<number> {
  const { bridges } = JSON.parse(await textOf(await askNetback(values, '/networks'))) as Told;
  const lines = bridges.flatMap(({ name, ports, macs }) => [
    name,
    row('port', 'kind', 'frames in', 'bytes in', 'frames out', 'bytes out', 'dropped'),
    ...ports.map((port) => {
      const { inFrames, inBytes, outFrames, outBytes, dropped } = port.counters;
      const lost = Object.entries(dropped).filter(([, count]) => count > 0);
      const told = lost.map(([reason, count]) => `${reason} ${count}`).join(', ') || '0';
      return row(port.name, port.kind, inFrames, inBytes, outFrames, outBytes, told);
    }),
    row('address', '', 'port', 'age'),
    ...macs.map(({ mac, port, pinned, ageMs }) => row(mac, '', port, pinned ? 'own' : `${Math.round(ageMs / 1000)} s`)),
  ]);
  process.stdout.write(`${lines.join('\n')}\n`);
  return 0;
}

const WIDTHS = [16, 8, 12, 14, 12, 14, 0];
const row = (...cells: readonly (string | number)[]): string =>
  `  ${cells.map((cell, i) => String(cell).padEnd(WIDTHS[i] ?? 0)).join('')}`.trimEnd();
