/** A profile as text: a table for people, and folded stacks for flame graphs (one line a stack: frames `;` frames, number). */
import type { Profile } from './samples.ts';

export interface ReportOptions {
  /** Lines of the table at most. */
  readonly top: number;
  readonly seconds: number;
}

const percent = (part: number, whole: number): string => `${((100 * part) / Math.max(whole, 1)).toFixed(2)} %`;

export function reportText(profile: Profile, options: ReportOptions): string {
  const { total, lost, modes, tiers } = profile;
  const lines = [
    `${total} samples in ${options.seconds.toFixed(1)} s${lost > 0 ? `, ${lost} records lost` : ''}`,
    `kernel ${percent(modes.kernel, total)}, user ${percent(modes.user, total)}, hypervisor ${percent(modes.xen, total)}` +
      `; compiled code in ${percent(tiers.compiled, tiers.known)} of ${tiers.known} samples that tell`,
    '',
    `${'share'.padStart(8)} ${'samples'.padStart(8)}  ${'domain'.padEnd(6)} ${'mode'.padEnd(6)} function`,
  ];
  const stacks = profile.stacks();
  for (const [stack, count] of stacks.slice(0, options.top)) {
    const [domain = '', mode = '', ...places] = stack.split(';');
    const place = places.join(' < ');
    lines.push(
      `${percent(count, total).padStart(8)} ${String(count).padStart(8)}  ${domain.replace('domain ', '').padEnd(6)} ${mode.padEnd(6)} ${place}`,
    );
  }
  if (stacks.length > options.top) lines.push(`... and ${stacks.length - options.top} more places`);
  return `${lines.join('\n')}\n`;
}

export const foldedText = (profile: Profile): string =>
  profile
    .stacks()
    .map(([stack, count]) => `${stack} ${count}\n`)
    .join('');
