/** The `--jit` option of conformance runs: one host a mode. */

export interface JitRun {
  /** For the options of a TestHost; undefined leaves it to XENHOST_JIT. */
  readonly jit: string | undefined;
  /** What the rows of this run begin with: nothing where no mode was asked for. */
  readonly prefix: string;
}

/** The runs that a value such as `off,on,force` asks for; one when there is no value. The hypervisor checks the names. */
export const jitRuns = (list: string | undefined): readonly JitRun[] =>
  list === undefined
    ? [{ jit: undefined, prefix: '' }]
    : list.split(',').map((jit) => ({ jit, prefix: `jit ${jit}, ` }));
