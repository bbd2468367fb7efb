/** The lines of the disk bench: a command of the guest each, and the rate in what it prints. */
import { gioFigure } from '../lib/device-machines.ts';

export interface DiskLine {
  readonly name: string;
  readonly unit: 'MiB/s' | 'io/s';
  /** The image is taken out of this machine's page cache before. */
  readonly cold?: true;
  command(device: string): string;
  rate(output: string): number;
}

export interface DiskLineOptions {
  readonly mebibytes: number;
  readonly seconds: number;
  readonly spanMiB: number;
  /** The bench guest's own program is there. */
  readonly gbench: boolean;
}

const MIB = 1 << 20;
const DEPTHS = [1, 32] as const;
const BENCH = /^BENCH \S+ work=(\d+) ns=(\d+)/m;

const bytesPerSecond = (output: string): number => {
  const { bytes, seconds } = gioFigure(output);
  return bytes / MIB / seconds;
};
const opsPerSecond = (output: string): number => {
  const { ops, seconds } = gioFigure(output);
  return ops / seconds;
};

/** The line of gbench with this name; the rate is its work in a second. */
const gbenchRate =
  (name: string, scale: number) =>
  (output: string): number => {
    const [, work, ns] = BENCH.exec(output.split('\n').find((line) => line.startsWith(`BENCH ${name}`)) ?? '') ?? [];
    if (ns === undefined) throw new Error(`no line ${name}: ${JSON.stringify(output.slice(-500))}`);
    return Number(work) / scale / (Number(ns) / 1e9);
  };

export function diskLines({ mebibytes, seconds, spanMiB, gbench }: DiskLineOptions): DiskLine[] {
  const lines: DiskLine[] = [];
  for (const way of ['read', 'write'] as const)
    for (const kind of ['direct', 'buffered'] as const)
      lines.push({
        name: `sequential-1MiB-${way}-${kind}`,
        unit: 'MiB/s',
        command: (device) => `gio seq ${way} ${kind} ${device} ${MIB} ${mebibytes}`,
        rate: bytesPerSecond,
      });
  lines.push({
    name: 'sequential-1MiB-read-direct-cold',
    unit: 'MiB/s',
    cold: true,
    command: (device) => `gio seq read direct ${device} ${MIB} ${mebibytes}`,
    rate: bytesPerSecond,
  });
  lines.push({
    name: 'dd-read',
    unit: 'MiB/s',
    command: (device) =>
      `gbench -x dd ${mebibytes * MIB} byte /bin/busybox dd if=${device} of=/dev/null bs=1M count=${mebibytes}`,
    rate: gbenchRate('dd', MIB),
  });
  for (const depth of DEPTHS)
    lines.push({
      name: `random-4KiB-read-depth-${depth}`,
      unit: 'io/s',
      command: (device) => `gio rand ${device} 4096 ${depth} ${seconds} ${spanMiB}`,
      rate: opsPerSecond,
    });
  if (gbench) {
    lines.push({
      name: 'gbench-dseq64k',
      unit: 'MiB/s',
      command: (device) => `gbench -d ${device}`,
      rate: gbenchRate('disk_dseq64k', MIB),
    });
    lines.push({
      name: 'gbench-drnd4k',
      unit: 'io/s',
      command: (device) => `gbench -d ${device}`,
      rate: gbenchRate('disk_drnd4k', 1),
    });
  }
  return gbench ? lines : lines.filter(({ name }) => name !== 'dd-read');
}
