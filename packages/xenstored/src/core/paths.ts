/** Paths of nodes: what is a valid one, and its pieces (docs/misc/xenstore.txt, is_valid_nodename() of the C daemon). */

const VALID_CHARS = /^[A-Za-z0-9\-/_@]*$/;
/** As sscanf takes "/local/domain/%5u/". */
const DOMAIN_PREFIX = /^\/local\/domain\/(?:\d{1,5}|-\d{1,4})\//;

/** The absolute path for what a client named: relative ones stand below `implicitPath`. Special names (`@`) stay as they are. */
export function canonicalize(given: string, implicitPath: string): string {
  const first = given.charCodeAt(0);
  return first === SLASH || first === AT ? given : `${implicitPath}/${given}`;
}

const SLASH = 0x2f;
const AT = 0x40;

export const isSpecial = (path: string): boolean => path.charCodeAt(0) === AT;

/** Whether an absolute path may name a node: known characters, no `//`, no slash at the end, not too long. */
export function isValidPath(path: string, pathMax: number): boolean {
  if (path.charCodeAt(0) !== SLASH || !VALID_CHARS.test(path)) return false;
  if (path.length > 1 && path.charCodeAt(path.length - 1) === SLASH) return false;
  if (path.includes('//')) return false;
  return path.length <= pathMax || path.length <= pathMax + (DOMAIN_PREFIX.exec(path)?.[0].length ?? 0);
}

/** The parent of an absolute path; of `/` itself. */
export function parentOf(path: string): string {
  const slash = path.lastIndexOf('/');
  return slash <= 0 ? '/' : path.slice(0, slash);
}

export const baseName = (path: string): string => path.slice(path.lastIndexOf('/') + 1);

export const childPath = (parent: string, name: string): string => (parent === '/' ? `/${name}` : `${parent}/${name}`);
