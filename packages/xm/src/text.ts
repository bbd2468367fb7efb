/** Columns as C's printf makes them, and lines broken as Xen 4.4's `xm` breaks them. */

/** One column: `%-40s`, `%5d`, `%8.1f`. */
const CONVERSION = /%(-?)(\d+)?(?:\.(\d+))?([sdf%])/g;

/** `printf` for the conversions that xm's tables use. */
export function format(template: string, ...values: readonly (string | number)[]): string {
  let next = 0;
  return template.replace(
    CONVERSION,
    (_whole, left: string, width: string | undefined, precision: string | undefined, kind: string) => {
      if (kind === '%') return '%';
      const value = values[next] ?? '';
      next += 1;
      const text =
        kind === 'f'
          ? fixed(Number(value), Number(precision ?? 6))
          : kind === 'd'
            ? String(Math.trunc(Number(value)))
            : String(value);
      return left === '-' ? text.padEnd(Number(width ?? 0)) : text.padStart(Number(width ?? 0));
    },
  );
}

/** As C rounds: what lies exactly between two goes to the even one, where JavaScript goes up. */
export function fixed(value: number, digits: number): string {
  const text = value.toFixed(digits);
  const isTie = Math.abs(value * 2 ** (digits + 1)) % 2 === 1;
  if (!isTie || Number(text.at(-1)) % 2 === 0) return text;
  const below = (Math.abs(value) - 10 ** -digits / 2).toFixed(digits);
  return value < 0 ? `-${below}` : below;
}

/** Words in lines shorter than `width`. */
export function wrap(text: string, width: number): string[] {
  if (text.length < width) return [text];
  const lines: string[] = [];
  let line = '';
  for (const word of text.split(/\s+/)) {
    if (line.length + word.length + 1 < width) {
      line += `${word} `;
    } else {
      lines.push(line.trim());
      line = `${word} `;
    }
  }
  if (line) lines.push(line.trim());
  return lines;
}

/** `0,1,2,4` as `0-2,4`; nothing as `no cpus`. */
export function cpuRanges(cpus: readonly number[]): string {
  if (cpus.length === 0) return 'no cpus';
  const sorted = [...new Set(cpus)].sort((a, b) => a - b);
  const pairs: [number, number][] = [];
  for (const cpu of sorted) {
    const last = pairs.at(-1);
    if (last && last[1] === cpu - 1) last[1] = cpu;
    else pairs.push([cpu, cpu]);
  }
  return pairs.map(([first, last]) => (first === last ? `${first}` : `${first}-${last}`)).join(',');
}
