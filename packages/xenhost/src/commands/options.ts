/** Command-line values to host options, with errors that name what was wrong. */
import { resolve } from 'node:path';
import { type HostOptions, hostDefaults } from '../host.ts';

export type Values = Record<string, string | boolean | undefined>;

const MIN_MEMORY_MIB = 64;
const MAX_MEMORY_MIB = 4096;
const MAX_PCPUS = 64;

export const text = (values: Values, name: string): string | undefined => {
  const value = values[name];
  return typeof value === 'string' ? value : undefined;
};

export function wholeNumber(values: Values, name: string, fallback: number, min: number, max: number): number {
  const value = text(values, name);
  if (value === undefined) return fallback;
  const n = /^\d+$/.test(value) ? Number(value) : NaN;
  if (!(n >= min && n <= max)) throw new Error(`--${name} ${value}: a whole number from ${min} to ${max}`);
  return n;
}

export const runDirectory = (values: Values): string | undefined => {
  const directory = text(values, 'run-dir');
  return directory === undefined ? undefined : resolve(directory);
};

export function hostOptions(values: Values): HostOptions {
  return {
    runDirectory: runDirectory(values),
    memoryMiB: wholeNumber(values, 'memory', hostDefaults.memoryMiB, MIN_MEMORY_MIB, MAX_MEMORY_MIB),
    pcpus: wholeNumber(values, 'pcpus', Math.min(hostDefaults.pcpus, MAX_PCPUS), 1, MAX_PCPUS),
    xendTcp: text(values, 'xend-tcp'),
    xendConfig: text(values, 'xend-config'),
    jit: text(values, 'jit'),
  };
}
