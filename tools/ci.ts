/** The steps of CI, their rows added up. A step that prints no count stands for one case: its exit code. */
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';

interface Step {
  readonly name: string;
  readonly command: readonly [string, ...string[]];
}

const steps: readonly Step[] = [
  { name: 'npm test', command: ['npm', 'test', '--silent'] },
  {
    name: 'instructions against the processor',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'cpu', '--cases', '200000'],
  },
  {
    name: 'random programs on processor, oracle, interpreter and JIT',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'fuzz', '--minutes', '1'],
  },
  {
    name: 'ordering and atomicity on several engines',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'litmus', '--iterations', '20000'],
  },
  {
    name: 'code written, run and written again',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'churn', '--modules', '10000'],
  },
  { name: 'xenstored against real clients', command: ['npm', 'run', '--silent', 'conformance', '--', 'xenstored'] },
  {
    name: 'xend by its contract and by other programs',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'xend'],
  },
  {
    name: 'CPU pools under a busy guest',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'cpupools', '--moves', '4'],
  },
  {
    name: 'Debian saved and restored with its registers under watch',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'save', '--rounds', '1'],
  },
  {
    name: 'Debian moved to another host and back',
    command: ['npm', 'run', '--silent', 'conformance', '--', 'migrate', '--rounds', '1'],
  },
  { name: "the screen of Debian's kernel over VNC", command: ['npm', 'run', '--silent', 'conformance', '--', 'vnc'] },
  {
    name: 'disks and networks of guests',
    command: [
      'npm',
      'run',
      '--silent',
      'conformance',
      '--',
      'backends',
      '--seconds',
      '5',
      '--megabytes',
      '16',
      '--guests',
      '4',
    ],
  },
  { name: "Debian's kernels as PV guests", command: ['npm', 'run', '--silent', 'conformance', '--', 'debian-pv'] },
];

const COUNT = /^(\d+) passed, (\d+) failed$/;
const JEST = /^Tests:\s+(?:(\d+) failed, )?(?:\d+ skipped, )?(?:(\d+) passed, )?\d+ total/;

interface Tally {
  passed: number;
  failed: number;
}

function count(line: string, tally: Tally): void {
  // eslint-disable-next-line no-control-regex -- colours of the terminal
  const plain = line.replaceAll(/\x1b\[[0-9;]*m/g, '');
  const own = COUNT.exec(plain);
  const jest = JEST.exec(plain);
  tally.passed += Number(own?.[1] ?? jest?.[2] ?? 0);
  tally.failed += Number(own?.[2] ?? jest?.[1] ?? 0);
}

async function run(step: Step): Promise<Tally> {
  process.stdout.write(`\n=== ${step.name}: ${step.command.join(' ')}\n`);
  const [command, ...args] = step.command;
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'] });
  const tally: Tally = { passed: 0, failed: 0 };
  for (const stream of [child.stdout, child.stderr]) {
    createInterface({ input: stream }).on('line', (line) => {
      process.stdout.write(`${line}\n`);
      count(line, tally);
    });
  }
  const code = await new Promise<number | null>((resolve) => child.once('close', resolve));
  if (code !== 0 && tally.failed === 0) tally.failed = 1;
  if (tally.passed === 0 && tally.failed === 0) tally.passed = 1;
  return tally;
}

const total: Tally = { passed: 0, failed: 0 };
for (const step of steps) {
  const start = Date.now();
  const tally = await run(step);
  process.stdout.write(`=== ${step.name}: ${Math.round((Date.now() - start) / 1000)} s\n`);
  total.passed += tally.passed;
  total.failed += tally.failed;
}
process.exitCode = total.failed === 0 ? 0 : 1;
process.stdout.write(`${total.passed} passed, ${total.failed} failed\n`);
