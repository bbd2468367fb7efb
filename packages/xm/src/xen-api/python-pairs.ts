/** Records of the Xen-API as Xen 4.4's xm printed them: Python 2 dicts, pair by pair (`main.py` and `sxputils.py`, map2sxp). */
import { dictOrder, Float, pythonRepr, stringHash, updatedOrder, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';
import { isStruct, sxpOf } from './values.ts';

const namesInOrder = (record: XmlRpcStruct): string[] => dictOrder(Object.keys(record), stringHash);

/** Names in a dict's order; a dict within is one text, its `repr`. `update` came to the record afterwards. */
export function pythonPairs(record: XmlRpcStruct, update: XmlRpcStruct = {}): Sxp[] {
  const news = Object.keys(update);
  const all = { ...record, ...update };
  return updatedOrder(Object.keys(record), news, stringHash).map((name): Sxp => {
    const value = all[name] ?? null;
    return [name, isStruct(value) ? pythonText(value) : sxpOf(value)];
  });
}

/** The same with dicts and lists spread out behind their names, as cpupool-list has them. */
export const spreadPairs = (record: XmlRpcStruct): Sxp[] =>
  namesInOrder(record).map((name): Sxp => {
    const value = record[name] ?? null;
    if (isStruct(value)) return [name, ...spreadPairs(value)];
    return [name, ...(Array.isArray(value) ? (value as readonly XmlRpcValue[]).map(sxpOf) : [sxpOf(value)])];
  });

/** `repr` of a value that came over XML-RPC. */
export function pythonText(value: XmlRpcValue): string {
  if (value === null) return 'None';
  if (value instanceof Float) return floatRepr(value.value);
  if (typeof value === 'boolean') return value ? 'True' : 'False';
  if (typeof value === 'string') return pythonRepr(value);
  if (Array.isArray(value)) return `[${(value as readonly XmlRpcValue[]).map(pythonText).join(', ')}]`;
  if (!isStruct(value)) return typeof value === 'number' ? String(value) : pythonRepr(String(sxpOf(value)));
  return `{${namesInOrder(value)
    .map((name) => `${pythonRepr(name)}: ${pythonText(value[name] ?? null)}`)
    .join(', ')}}`;
}

/** From this on Python writes an exponent. */
const LARGE = 1e16;
const SMALL = 1e-4;

/** The shortest digits that are the number, with a point or an exponent. */
function floatRepr(value: number): string {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < LARGE) return `${value}.0`;
  if (size >= SMALL && size < LARGE) return String(value);
  return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
}
