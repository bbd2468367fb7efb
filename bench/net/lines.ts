/** The lines of the network bench: a command of the guest each, and the figure in what it prints. */
import { gioFigure } from '../lib/device-machines.ts';
import { median } from '../lib/figures.ts';

export interface NetLine {
  readonly name: string;
  readonly unit: 'MB/s' | 'ms';
  readonly command: string;
  figure(output: string): number;
}

interface End {
  readonly address: string;
  readonly port: number;
}

export interface NetLineOptions {
  readonly mebibytes: number;
  readonly peer: End;
  /** This machine; undefined without a way to it. */
  readonly machine: End | undefined;
}

const PINGS = 60;
const MEGABYTE = 1e6;

const megabytesPerSecond = (output: string): number => {
  const { bytes, seconds } = gioFigure(output);
  return bytes / MEGABYTE / seconds;
};

/** The median of what busybox's ping prints for each answer. */
const pingMedian = (output: string): number => {
  const times = [...output.matchAll(/ time=([\d.]+) ms/g)].map((match) => Number(match[1]));
  if (times.length === 0) throw new Error(`no answer to ping: ${JSON.stringify(output.slice(-500))}`);
  return median(times);
};

const turnMedian = (output: string): number => {
  const ns = /^median=(\d+)/m.exec(output)?.[1];
  if (ns === undefined) throw new Error(`no turns: ${JSON.stringify(output.slice(-500))}`);
  return Number(ns) / 1e6;
};

function linesTo(name: string, { address, port }: End, mebibytes: number): NetLine[] {
  return [
    {
      name: `guest-to-${name}-tcp`,
      unit: 'MB/s',
      command: `gio send ${address} ${port} ${mebibytes} 0`,
      figure: megabytesPerSecond,
    },
    {
      name: `${name}-to-guest-tcp`,
      unit: 'MB/s',
      command: `gio get ${address} ${port} ${mebibytes} 0`,
      figure: megabytesPerSecond,
    },
    { name: `${name}-tcp-turn`, unit: 'ms', command: `gio turns ${address} ${port} 500`, figure: turnMedian },
    { name: `${name}-ping`, unit: 'ms', command: `ping -c ${PINGS} -i 0.05 ${address}`, figure: pingMedian },
  ];
}

export const netLines = ({ mebibytes, peer, machine }: NetLineOptions): NetLine[] => [
  ...linesTo('peer', peer, mebibytes),
  ...(machine === undefined ? [] : linesTo('host', machine, mebibytes)),
];
