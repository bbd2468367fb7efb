/**
 * What each PV test of the Xen Test Framework said as a domU of Xen 4.17.5 (inside QEMU 10, whose own faults explain the
 * lines that are neither SUCCESS nor SKIP). `pv-iopl` there ran without a command line.
 */
export type Verdict = 'SUCCESS' | 'SKIP' | 'ERROR' | 'FAILURE' | 'PANIC' | 'CRASH';

const results: Readonly<Record<Verdict, string>> = {
  SUCCESS:
    'cpuid example livepatch-priv-check msr rtm-check selftest xsa-122 xsa-182 xsa-188 xsa-193 xsa-212 xsa-213 xsa-221 ' +
    'xsa-224 xsa-227 xsa-231 xsa-232 xsa-234 xsa-255 xsa-259 xsa-279 xsa-286 xsa-296 xsa-316 xsa-317 xsa-333 xsa-339 xsa-7',
  SKIP: 'argo cpuid-faulting xsa-167 xsa-444',
  ERROR: 'pv-iopl',
  FAILURE: 'memop-seg pv-fsgsbase xsa-298',
  PANIC: 'debug-regs xsa-260 xsa-265',
  CRASH: '',
};

const byName = new Map<string, Verdict>(
  Object.entries(results).flatMap(([verdict, names]) =>
    names.split(' ').map((name) => [name, verdict as Verdict] as const),
  ),
);

/** The reference verdict of a test, whatever its environment; undefined when it was not run. */
export const reference = (test: string): Verdict | undefined => byName.get(test);
