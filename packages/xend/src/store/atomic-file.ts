/**
 * Files that survive a crash at any point: a reader finds the old content or the new one, whole. Written beside, synced,
 * renamed; the folder is synced so that the name survives too.
 */
import { mkdir, open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

/** What a crash can leave beside a file. */
export const TEMPORARY_SUFFIX = '.new';

/**
 * Replaces a file, or makes it with its folders. Calls for one path must not overlap. Without `durable` it survives the end
 * of the process but not that of the machine.
 */
export async function writeFileAtomically(path: string, text: string, durable = true): Promise<void> {
  const folder = dirname(path);
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${path}${TEMPORARY_SUFFIX}`;
  const file = await open(temporary, 'w', 0o600);
  try {
    await file.writeFile(text);
    if (durable) await file.sync();
  } finally {
    await file.close();
  }
  await rename(temporary, path);
  if (durable) await syncFolder(folder);
}

/** Removes a folder and all in it, for good. The name goes first, so that a crash half-way leaves no half of it. */
export async function removeFolderAtomically(path: string): Promise<void> {
  const dead = `${path}.deleted`;
  await rm(dead, { recursive: true, force: true });
  try {
    await rename(path, dead);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await syncFolder(dirname(path));
  await rm(dead, { recursive: true, force: true });
}

/** The name of what `removeFolderAtomically` may leave when it is cut short. */
export const isDeletedFolder = (name: string): boolean => name.endsWith('.deleted');

async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, 'r');
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}
