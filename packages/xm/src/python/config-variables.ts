/**
 * `xm_vars`, by which a config file says what `VAR=VAL` it wants on the command line: `xm_vars.var('vmid', check=f)`, then
 * `xm_vars.check()` (Xen 4.4 `help.py`).
 */
import type { Scope } from './expressions.ts';
import { PyError, PyFunction, PyModule } from './values.ts';

export function configVariables(scope: Scope): PyModule {
  const checks: { readonly name: string; readonly check: PyFunction }[] = [];
  const define = new PyFunction('var', (args, keywords) => {
    const [name = keywords.get('name') ?? null, , check = keywords.get('check') ?? null] = args;
    if (typeof name !== 'string') throw new PyError('xm_vars.var() wants a name');
    if (check instanceof PyFunction) checks.push({ name, check });
    return null;
  });
  const run = new PyFunction('check', () => {
    for (const { name, check } of checks) {
      try {
        scope.set(name, check.call([name, scope.get(name) ?? null], new Map()));
      } catch (error) {
        // The function stands in the file too: its own line counts less than the variable's name.
        if (error instanceof Error && ['PyError', 'ConfigFileError'].includes(error.name)) {
          throw new PyError(`${name} - ${error.message}`);
        }
        throw error;
      }
    }
    return null;
  });
  return new PyModule(
    'xm_vars',
    new Map([
      ['var', define],
      ['check', run],
    ]),
  );
}
