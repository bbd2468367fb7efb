/** Opens a disk image of any format, with the backing files under it. */
import { stat } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { ImageError } from './errors.ts';
import { HostFile } from './file/host-file.ts';
import { MAX_BACKING_DEPTH } from './limits.ts';
import { probeFormat } from './probe.ts';
import { openQcow2 } from './qcow2/open.ts';
import type { Qcow2Header } from './qcow2/header.ts';
import { RawImage } from './raw.ts';
import type { DiskImage, ImageFormat, OpenImageSpec } from './types.ts';
import { openVhd } from './vhd/open.ts';

/** Throws ImageError, and errors of the file system with their `code`. */
export function openImage(spec: OpenImageSpec): Promise<DiskImage> {
  return openChained(spec, []);
}

/** `above` are the files of the chain so far, as device and inode. */
async function openChained(spec: OpenImageSpec, above: readonly string[]): Promise<DiskImage> {
  const { path, readOnly } = spec;
  const file = await HostFile.open(path, { readOnly });
  let format: ImageFormat;
  try {
    format = spec.format === 'auto' ? await probeFormat(file) : (spec.format ?? 'raw');
    if (spec.snapshot !== undefined && format !== 'qcow2') {
      throw new ImageError('UNSUPPORTED', `a ${format} image has no snapshots`);
    }
  } catch (error) {
    await file.close();
    throw error;
  }
  if (format === 'raw') return new RawImage(file);
  if (format === 'vhd') return openVhd(file);
  const { snapshot } = spec;
  return openQcow2(file, {
    snapshot,
    openBacking: async (backing) => {
      if (spec.allowBackingFiles === false) {
        throw new ImageError('UNSUPPORTED', `${path} has a backing file, which is not allowed here`);
      }
      const { dev, ino } = await stat(path);
      const chain = [...above, `${dev}:${ino}`];
      return openChained(
        { ...backingSpec(path, backing), readOnly: true },
        await checkedChain(chain, path, backing.name),
      );
    },
  });
}

async function checkedChain(chain: readonly string[], path: string, name: string): Promise<readonly string[]> {
  if (chain.length > MAX_BACKING_DEPTH) {
    throw new ImageError('LIMIT', `${path}: more than ${MAX_BACKING_DEPTH} backing files under one image`);
  }
  const { dev, ino } = await stat(backingPath(path, name));
  if (chain.includes(`${dev}:${ino}`)) throw new ImageError('CORRUPT', `${path} is its own backing file`);
  return chain;
}

/** QEMU's names of formats. An image that does not say is looked at, as QEMU does. */
const BACKING_FORMATS: Readonly<Record<string, ImageFormat>> = {
  raw: 'raw',
  file: 'raw',
  host_device: 'raw',
  qcow2: 'qcow2',
  vpc: 'vhd',
};

function backingSpec(
  path: string,
  backing: NonNullable<Qcow2Header['backing']>,
): { readonly path: string; readonly format: ImageFormat | 'auto' } {
  const { name, format } = backing;
  if (format === undefined) return { path: backingPath(path, name), format: 'auto' };
  const known = Object.hasOwn(BACKING_FORMATS, format) ? BACKING_FORMATS[format] : undefined;
  if (!known) throw new ImageError('UNSUPPORTED', `${path}: a backing file of the format ${JSON.stringify(format)}`);
  return { path: backingPath(path, name), format: known };
}

/** A name with a protocol (nbd:, json:) is none of a file. */
function backingPath(path: string, name: string): string {
  const plain = name.startsWith('file:') ? name.slice(5) : name;
  if (/^[A-Za-z][A-Za-z0-9+.-]*:/.test(plain)) {
    throw new ImageError('UNSUPPORTED', `${path}: a backing file that is no file: ${JSON.stringify(name)}`);
  }
  return resolve(dirname(path), plain);
}
