/** Records on the disk, when the process is killed while it writes them. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { memoryLog } from '../node/log.ts';
import { StateStore } from './state.ts';

/** Other processes take part, on machines with other work. */
jest.setTimeout(60_000);

const REF = '11111111-2222-3333-4444-555555555555';
const MODULE = join(__dirname, 'state.ts');
/** Writes the same record again and again, and says how far it has come. */
const WRITER = `
import { StateStore } from ${JSON.stringify(MODULE)};
const none = () => undefined;
const state = new StateStore(process.argv[2], { info: none, warn: none, error: none, read: () => '' });
await state.load();
for (let count = 1; ; count += 1) {
  await state.put('vm', '${REF}', { count, filler: String(count).repeat(5000) });
  process.stdout.write(count + '\\n');
}
`;

let directory: string;
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'xh-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

test('kill -9 leaves a whole record, and none that was answered is lost', async () => {
  const script = join(directory, 'writer.ts');
  writeFileSync(script, WRITER);
  for (let round = 1; round <= 3; round += 1) {
    const writer = spawn(process.execPath, [script, join(directory, 'state')], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let said = '';
    const enough = new Promise<void>((resolve) => {
      writer.stdout.setEncoding('utf8').on('data', (text: string) => {
        said += text;
        if (said.split('\n').length > 5 * round) resolve();
      });
    });
    await enough;
    writer.kill('SIGKILL');
    await once(writer, 'close');
    const log = memoryLog();
    const state = new StateStore(join(directory, 'state'), log);
    await state.load();
    expect(log.lines).toEqual([]);
    const record = state.table('vm').get(REF)!;
    const answered = Number(said.trim().split('\n').at(-1));
    const count = Number(record['count']);
    expect(count).toBeGreaterThanOrEqual(answered);
    expect(record['filler']).toBe(String(count).repeat(5000));
    expect(readdirSync(join(directory, 'state', 'vm'))).toEqual([`${REF}.json`]);
  }
});

test('changes of one record under way at once end with the last', async () => {
  const state = new StateStore(directory, memoryLog());
  await Promise.all(Array.from({ length: 20 }, (_, count) => state.put('vm', REF, { count })));
  await Promise.all([
    state.put('vm', REF, { count: 99 }),
    state.remove('vm', REF),
    state.put('vm', REF, { count: 100 }),
  ]);
  const again = new StateStore(directory, memoryLog());
  await again.load();
  expect(again.table('vm').get(REF)).toEqual({ count: 100 });
  await again.remove('vm', REF);
  expect(readdirSync(join(directory, 'vm'))).toEqual([]);
});
