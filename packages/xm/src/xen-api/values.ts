/** Looking into what the Xen-API answers: records, whose numbers are strings. */
import { Float, type Sxp } from '@xenhost/sxp';
import type { XmlRpcStruct, XmlRpcValue } from '@xenhost/xmlrpc-codec';

export function isStruct(value: XmlRpcValue | undefined): value is XmlRpcStruct {
  return (
    typeof value === 'object' &&
    value !== null &&
    !Array.isArray(value) &&
    !(value instanceof Float) &&
    !(value instanceof Date) &&
    !(value instanceof Uint8Array)
  );
}

export const structOf = (value: XmlRpcValue | undefined): XmlRpcStruct => (isStruct(value) ? value : {});

export const listOf = (value: XmlRpcValue | undefined): readonly XmlRpcValue[] =>
  Array.isArray(value) ? (value as readonly XmlRpcValue[]) : [];

export function numberOf(value: XmlRpcValue | undefined): number {
  if (value instanceof Float) return value.value;
  const number = typeof value === 'number' ? value : typeof value === 'string' && value !== '' ? Number(value) : 0;
  return Number.isFinite(number) ? number : 0;
}

export const textOf = (value: XmlRpcValue | undefined): string =>
  value === undefined || value === null || typeof value === 'object' ? '' : String(value);

/** A record as pairs, as `xm` prints it. */
export function sxpOf(value: XmlRpcValue): Sxp {
  if (Array.isArray(value)) return (value as readonly XmlRpcValue[]).map(sxpOf);
  if (value instanceof Date) return dateText(value);
  if (value instanceof Uint8Array) return Buffer.from(value).toString('base64');
  if (isStruct(value)) return pairsOf(value);
  return value as Sxp;
}

export const pairsOf = (record: XmlRpcStruct): Sxp[] =>
  Object.entries(record).map(([key, value]): Sxp => [key, sxpOf(value)]);

const dateText = (date: Date): string => date.toISOString().replaceAll('-', '').replace(/\.\d+/, '');
