/**
 * The device model of an HVM guest. Not there yet: it says so and ends, so that xend fails the guest at once (docs/LIMITS.md).
 */

/** The line for a command line such as `-d DOMID -domain-name NAME …`. */
export function refusal(argv: readonly string[]): string {
  const at = argv.indexOf('-d');
  const domid = at < 0 ? undefined : argv[at + 1];
  const which = domid !== undefined && /^\d+$/.test(domid) ? `domain ${domid}: ` : '';
  return `qemu-dm: ${which}HVM guests are not supported yet (docs/LIMITS.md)`;
}
