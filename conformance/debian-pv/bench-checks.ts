/**
 * The check values of the bench guest at scale 10, as a native run of the same program prints them: an emulated CPU that
 * computes anything wrong gives another value.
 */
const expected: Readonly<Record<string, string>> = {
  alu32: '0x00000000e77df167', alu64: '0xa3fbaeae5cb5355b', div: '0x00000000b80873c7', call: '0x0000000000016a40',
  sieve: '0x00000000000132a2', crc32: '0x00000000a2dcf263', sha256: '0x30cb317234d94af2', matmul: '0x00000000e85b4de0',
  sort: '0x000000005385acf8', chase: '0x00000000d69be4c0', copyloop: '0x00000000eff3c4ff', repmovs: '0x0000000077a08000',
  repstos: '0x0000000000000032', sse2fp: '0x0000000000017583', sse2int: '0x6e3a423da626cd37', x87: '0x0000000000061a80',
  syscall: '0x0000000000000000', pgfault: '0x000000000003fc00', fork: '0x0000000000000046', pipe: '0x00000000173714fa',
}; // prettier-ignore

/** Throws unless every bench printed its line with the right value; the result says how many did. */
export function benchChecks(output: string): string {
  const wrong: string[] = [];
  for (const [name, value] of Object.entries(expected)) {
    const found = new RegExp(`^BENCH ${name} .*check=(0x[0-9a-f]+)`, 'm').exec(output)?.[1];
    if (found !== value) wrong.push(`${name}: ${found ?? 'no line'} instead of ${value}`);
  }
  if (!output.includes('BENCH-END')) wrong.push('no BENCH-END line');
  if (wrong.length > 0) throw new Error(wrong.join('; '));
  return `${Object.keys(expected).length} values right`;
}
