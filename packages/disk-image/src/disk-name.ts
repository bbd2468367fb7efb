/**
 * Names of disks as they stand in a domain's configuration and in a vbd's `params` and `type` (xm's `disk=[...]`):
 * `file:/x`, `phy:/dev/x`, `phy:x`, `tap:aio:/x`, `tap:qcow2:/x`, `tap2:vhd:/x`, `tap2:tapdisk:aio:/x`, `raw:/x`, `/x`.
 * Pure: looks at no file.
 */
import { ImageError } from './errors.ts';
import type { ImageFormat } from './types.ts';

export interface DiskName {
  readonly path: string;
  readonly format: ImageFormat;
  /** Which driver of Xen's the name asks for; `phy` may name a device only. */
  readonly kind: 'file' | 'phy' | 'tap';
}

/** blktap's names of formats; `sync` and `aio` are two ways to read a raw file. */
const FORMATS: Readonly<Record<string, ImageFormat>> = {
  raw: 'raw',
  aio: 'raw',
  sync: 'raw',
  file: 'raw',
  qcow2: 'qcow2',
  vhd: 'vhd',
};
const MAX_PATH_BYTES = 4095;
const DEVICES = '/dev/';

/** Throws ImageError BAD_NAME, or UNSUPPORTED with the name of a format that is not handled. */
export function parseDiskName(name: string): DiskName {
  if (name.includes('\0') || Buffer.byteLength(name) > MAX_PATH_BYTES) {
    throw new ImageError('BAD_NAME', 'the name of a disk is too long or has a zero byte');
  }
  if (name.startsWith('/')) return { path: name, format: 'raw', kind: 'file' };
  const [, scheme = '', rest = ''] = /^([A-Za-z0-9_-]+):(.*)$/s.exec(name) ?? [];
  if (scheme === 'phy') {
    if (rest === '') throw badName(name);
    return { path: rest.startsWith('/') ? rest : DEVICES + rest, format: 'raw', kind: 'phy' };
  }
  if (scheme === 'tap' || scheme === 'tap2') {
    const [, driver = '', path = ''] = /^(?:tapdisk:|ioemu:)?([A-Za-z0-9_-]+):(.*)$/s.exec(rest) ?? [];
    return { path: absolute(path, name), format: formatOf(driver, name), kind: 'tap' };
  }
  return { path: absolute(rest, name), format: formatOf(scheme, name), kind: 'file' };
}

function formatOf(driver: string, name: string): ImageFormat {
  if (driver === '') throw badName(name);
  const format = Object.hasOwn(FORMATS, driver) ? FORMATS[driver] : undefined;
  if (!format) throw new ImageError('UNSUPPORTED', `disk ${name}: no driver for '${driver}'`);
  return format;
}

function absolute(path: string, name: string): string {
  if (!path.startsWith('/')) throw badName(name);
  return path;
}

const badName = (name: string): ImageError =>
  new ImageError('BAD_NAME', `disk '${name}': expected such as file:/path, phy:/dev/name or tap:aio:/path`);
