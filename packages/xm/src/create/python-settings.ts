/** Values of a config file as settings: strings, numbers and lists of them count; everything else is the file's own. */
import { PyList, PyTuple, type PyValue } from '../python/values.ts';
import type { Setting } from './options.ts';

export function toSetting(value: PyValue, inList = false): Setting | undefined {
  if (typeof value === 'string') return value;
  if (typeof value === 'boolean') return value ? 1 : 0;
  if (typeof value === 'bigint') return Number(value);
  if (typeof value === 'number') return value;
  if (value instanceof PyList || (inList && value instanceof PyTuple)) {
    const items = value.items.map((item) => toSetting(item, true));
    return items.includes(undefined) ? undefined : (items as Setting[]);
  }
  return undefined;
}
