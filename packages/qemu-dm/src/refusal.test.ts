import { spawnSync } from 'node:child_process';
import { resolve } from 'node:path';
import { refusal } from './index.ts';

test.each([
  [['-d', '7', '-domain-name', 'win'], 'qemu-dm: domain 7: HVM guests are not supported yet (docs/LIMITS.md)'],
  [['-d'], 'qemu-dm: HVM guests are not supported yet (docs/LIMITS.md)'],
  [[], 'qemu-dm: HVM guests are not supported yet (docs/LIMITS.md)'],
])('%j', (argv, line) => {
  expect(refusal(argv)).toBe(line);
});

test('the process says so and ends with status 1', () => {
  const { status, stderr } = spawnSync(process.execPath, [resolve(__dirname, 'main.ts'), '-d', '3'], {
    encoding: 'utf8',
  });
  expect(status).toBe(1);
  expect(stderr).toBe('qemu-dm: domain 3: HVM guests are not supported yet (docs/LIMITS.md)\n');
});
