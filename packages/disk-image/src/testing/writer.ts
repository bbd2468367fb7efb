/**
 * A process that writes to an image until it is killed, and tells on its output what has been answered. Arguments: path, format, number
 * of the first round. The output: the number of each block whose write has resolved, one a line. Block n holds bytes of `tagOf(n)`.
 */
import { writeSync } from 'node:fs';
import { openImage } from '../open.ts';
import type { ImageFormat } from '../types.ts';

export const BLOCK_BYTES = 3072;

export const tagOf = (block: number): number => 1 + ((block * 31) % 255);

const LANES = 8;

async function main(path: string, format: ImageFormat, first: number): Promise<void> {
  const image = await openImage({ path, format, readOnly: false });
  const places = Math.floor(image.sizeBytes / BLOCK_BYTES / LANES);
  for (let round = first; ; round += 1) {
    await Promise.all(
      Array.from({ length: LANES }, async (_, lane) => {
        // Each lane has blocks of its own, which lie between the others'.
        const block = ((round * 7919) % places) * LANES + lane;
        await image.write(block * BLOCK_BYTES, Buffer.alloc(BLOCK_BYTES, tagOf(block)));
        writeSync(1, `${block}\n`);
        if (round % 5 === 0) await image.flush();
      }),
    );
  }
}

const [program, path, format, first] = process.argv.slice(1);
if (program?.endsWith('writer.ts')) await main(path ?? '', format as ImageFormat, Number(first));
