/** Settings as Python had them, looked at as text, truth or SXP. */
import { float, type Sxp } from '@xenhost/sxp';
import { CommandFailed } from '../errors.ts';
import type { Setting } from './options.ts';

export type SettingMap = ReadonlyMap<string, Setting>;

/** A list setting's elements as texts. Throws CommandFailed when it is something else. */
export function strings(settings: SettingMap, name: string): string[] {
  const value = settings.get(name) ?? [];
  // An empty text stands for an empty list.
  if (value === '') return [];
  if (!Array.isArray(value)) throw new CommandFailed(`${name} should be a list`);
  return (value as readonly Setting[]).map((item) => textOf(item));
}

export const textOf = (value: Setting): string => (value === null ? '' : Array.isArray(value) ? '' : String(value));

export const isTrue = (value: Setting): boolean => (Array.isArray(value) ? value.length > 0 : Boolean(value));

/** Whole numbers are integers, others floats. */
export function sxpOf(value: Setting): Sxp {
  if (Array.isArray(value)) return (value as readonly Setting[]).map(sxpOf);
  return typeof value === 'number' && !Number.isInteger(value) ? float(value) : value;
}
