/** Paths of nodes: what is a valid one, and its pieces (docs/misc/xenstore.txt). */
import { fail } from './failure.ts';
import type { XsFailure } from './failure.ts';

const VALID_CHARS = /^[A-Za-z0-9\-/_@]*$/;
const DOMAIN_PREFIX = /^\/local\/domain\/\d{1,5}\//;

/**
 * The absolute path for what a client named: relative ones stand below `implicitPath`. EINVAL for other characters, `//`,
 * a trailing slash, too long a path, and for special (`@`) names unless allowed.
 */
export function canonicalize(
  given: string,
  implicitPath: string,
  pathMax: number,
  allowSpecial = false,
): string | XsFailure {
  if (!VALID_CHARS.test(given)) return fail('EINVAL');
  const special = given.startsWith('@');
  if (special && !allowSpecial) return fail('EINVAL');
  const path = special || given.startsWith('/') ? given : `${implicitPath}/${given}`;
  if (path.length > 1 && path.endsWith('/')) return fail('EINVAL');
  if (path.includes('//')) return fail('EINVAL');
  if (path.length > pathMax) {
    const prefix = DOMAIN_PREFIX.exec(path)?.[0].length ?? 0;
    if (path.length > prefix + pathMax) return fail('EINVAL');
  }
  return path;
}

/** The parent of an absolute path; of `/` itself. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

export const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

export const childPath = (parent: string, name: string): string => (parent === '/' ? `/${name}` : `${parent}/${name}`);

/** Names from the root down; empty for `/`. */
export const segments = (path: string): string[] => (path === '/' ? [] : path.slice(1).split('/'));
