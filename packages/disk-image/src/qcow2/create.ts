/** Makes empty qcow2 images. */
import { ImageError } from '../errors.ts';
import type { ImageFile } from '../file/image-file.ts';
import { MAX_DISK_BYTES, MAX_L1_BYTES } from '../limits.ts';
import { SECTOR_BYTES } from '../types.ts';
import { writeCount } from './counts.ts';
import { encodeHeader, l1EntriesOf } from './header.ts';
import { layoutOf } from './layout.ts';

export interface NewQcow2 {
  readonly sizeBytes: number;
  readonly backing: { readonly name: string; readonly format: string } | undefined;
  readonly clusterBytes: number;
  readonly version: 2 | 3;
  readonly refcountBits: number;
}

/** A table of counts for the whole disk is made at once, unless it were longer than this; it moves later. */
const MAX_FIRST_TABLE_BYTES = 64 * 1024;

const exponent = (value: number): number => 31 - Math.clz32(value);
const isPowerOfTwo = (value: number): boolean => Number.isInteger(value) && value > 0 && 2 ** exponent(value) === value;

/** Writes a whole image into an empty file. Throws ImageError. */
export async function writeEmptyQcow2(file: ImageFile, image: NewQcow2): Promise<void> {
  const clusterBits = exponent(image.clusterBytes);
  const refcountOrder = exponent(image.refcountBits);
  if (!isPowerOfTwo(image.clusterBytes) || clusterBits < 9 || clusterBits > 21) {
    throw new ImageError('UNSUPPORTED', `clusters of ${image.clusterBytes} bytes: a power of two from 512 to 2097152`);
  }
  if (!isPowerOfTwo(image.refcountBits) || refcountOrder > 6 || (image.version === 2 && refcountOrder !== 4)) {
    throw new ImageError('UNSUPPORTED', `counts of ${image.refcountBits} bits in version ${image.version}`);
  }
  const sizeBytes = Math.ceil(image.sizeBytes / SECTOR_BYTES) * SECTOR_BYTES;
  const l1Entries = l1EntriesOf(sizeBytes, clusterBits);
  if (sizeBytes > MAX_DISK_BYTES || l1Entries * 8 > MAX_L1_BYTES) {
    throw new ImageError('LIMIT', `a qcow2 disk of ${sizeBytes} bytes in clusters of ${image.clusterBytes}`);
  }
  const layout = layoutOf({ version: image.version, clusterBits, refcountOrder });
  const { clusterBytes, blockCounts } = layout;
  const dataClusters = Math.ceil(sizeBytes / clusterBytes);
  const l1Clusters = Math.max(1, Math.ceil((l1Entries * 8) / clusterBytes));
  const wanted = Math.ceil((dataClusters * (1 + 2 / layout.l2Entries) + l1Clusters + 2) / blockCounts) * 8;
  const tableClusters = Math.ceil(Math.min(wanted, MAX_FIRST_TABLE_BYTES) / clusterBytes);
  let nrBlocks = 1;
  const total = (): number => 1 + tableClusters + nrBlocks + l1Clusters;
  while (total() > nrBlocks * blockCounts) nrBlocks += 1;
  const blockAt = (1 + tableClusters) * clusterBytes;
  const l1Offset = blockAt + nrBlocks * clusterBytes;
  const head = encodeHeader({
    version: image.version,
    clusterBits,
    sizeBytes,
    l1Entries,
    l1Offset,
    refcountOffset: clusterBytes,
    refcountClusters: tableClusters,
    refcountOrder,
    backing: image.backing,
  });
  const table = Buffer.alloc(tableClusters * clusterBytes);
  const blocks = Buffer.alloc(nrBlocks * clusterBytes);
  for (let block = 0; block < nrBlocks; block += 1) {
    table.writeBigUInt64BE(BigInt(blockAt + block * clusterBytes), block * 8);
  }
  const counts = new DataView(blocks.buffer, blocks.byteOffset, blocks.length);
  // Blocks lie in a row, and so do their counts.
  for (let cluster = 0; cluster < total(); cluster += 1) writeCount(counts, refcountOrder, cluster, 1);
  await file.writev(0, [head, table, blocks]);
  await file.truncate(total() * clusterBytes);
  await file.sync();
}
