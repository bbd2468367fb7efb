/** QEMU's own tools, where the machine has them: the outside world's word on our images. */
import { execFileSync } from 'node:child_process';

export const hasQemuImg = (() => {
  try {
    execFileSync('qemu-img', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();

/** Tests that need qemu-img: shown as skipped where it is not installed. */
export const withQemuImg = hasQemuImg ? test : test.skip;

export const qemuImg = (...args: string[]): string =>
  execFileSync('qemu-img', args, { encoding: 'utf8', stdio: 'pipe' });

export const qemuIo = (format: string, path: string, ...commands: string[]): void => {
  execFileSync('qemu-io', ['-f', format, ...commands.flatMap((command) => ['-c', command]), path], { stdio: 'pipe' });
};

/** What `qemu-img check` finds in a qcow2 image. */
export function qemuCheck(path: string): { readonly errors: number; readonly leaks: number } {
  let text: string;
  try {
    text = qemuImg('check', '--output=json', '-f', 'qcow2', path);
  } catch (error) {
    // It ends with a status of 2 for errors and 3 for leaks, after its report.
    text = (error as { stdout: string }).stdout;
  }
  const report = JSON.parse(text) as Record<string, number | undefined>;
  return { errors: (report['corruptions'] ?? 0) + (report['check-errors'] ?? 0), leaks: report['leaks'] ?? 0 };
}

/** QEMU's name of a format. */
export const qemuFormat = (format: 'raw' | 'qcow2' | 'vhd'): string => (format === 'vhd' ? 'vpc' : format);
