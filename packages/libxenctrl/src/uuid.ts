/** UUIDs as the 16 bytes of a domain handle and as text. */
import { Errno, XenError } from '@xenhost/base';

const BYTES = 16;

/** @throws XenError EINVAL for what is no UUID */
export function uuidBytes(uuid: Uint8Array | string): Uint8Array {
  if (typeof uuid !== 'string') {
    if (uuid.length !== BYTES) throw new XenError(Errno.EINVAL, `uuid of ${uuid.length} bytes`);
    return uuid;
  }
  const digits = uuid.replaceAll('-', '');
  if (!/^[0-9a-fA-F]{32}$/.test(digits)) throw new XenError(Errno.EINVAL, `uuid '${uuid}'`);
  return Uint8Array.from({ length: BYTES }, (_, i) => Number.parseInt(digits.slice(i * 2, i * 2 + 2), 16));
}

export function uuidText(bytes: Uint8Array): string {
  const digits = Buffer.from(bytes).toString('hex');
  const part = (from: number, to: number): string => digits.slice(from, to);
  return `${part(0, 8)}-${part(8, 12)}-${part(12, 16)}-${part(16, 20)}-${part(20, 32)}`;
}
