/** When what a turn has for clients leaves. */
import { GATHERED_MAX, LOOK_EVERY } from './limits.ts';
import { Turns } from './turns.ts';
import type { Sender, Worker } from './turns.ts';

/** Each of its requests is one step with one reply. */
class Client implements Worker, Sender {
  readonly #name: string;
  readonly #turns: Turns;
  readonly #said: string[];
  requests = 0;

  constructor(name: string, turns: Turns, said: string[]) {
    this.#name = name;
    this.#turns = turns;
    this.#said = said;
  }

  work(): boolean {
    this.requests--;
    this.#said.push(`${this.#name} works`);
    this.#turns.toFlush(this);
    return this.requests > 0;
  }

  flush(): void {
    this.#said.push(`${this.#name} gets`);
  }
}

const endOfRound = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function setup(): { turns: Turns; said: string[]; client: (name: string) => Client } {
  const turns = new Turns();
  const said: string[] = [];
  return { turns, said, client: (name) => new Client(name, turns, said) };
}

/** As many as are at work together in one round. */
async function atWork(turns: Turns, clients: readonly Client[]): Promise<void> {
  for (let done = 0; done <= LOOK_EVERY + clients.length; done += clients.length) {
    for (const client of clients) turns.ready(client);
  }
  await endOfRound();
}

test('one client gets its reply as soon as it is there', () => {
  const { turns, said, client } = setup();
  const one = client('one');
  turns.ready(one);
  turns.ready(one);
  expect(said).toEqual(['one works', 'one gets', 'one works', 'one gets']);
});

test('what comes from elsewhere leaves when that has run', async () => {
  const { turns, said, client } = setup();
  turns.toFlush(client('one'));
  turns.toFlush(client('two'));
  expect(said).toEqual([]);
  await Promise.resolve();
  expect(said).toEqual(['one gets', 'two gets']);
});

test('who has more to do waits behind the others, and gets what there is meanwhile', async () => {
  const { turns, said, client } = setup();
  const [busy, other] = [client('busy'), client('other')];
  busy.requests = 2;
  turns.ready(busy);
  turns.ready(other);
  expect(said).toEqual(['busy works', 'busy gets']);
  await endOfRound();
  expect(said.slice(2)).toEqual(['busy works', 'other works', 'busy gets', 'other gets']);
});

test('of many clients the replies leave together at the end of the round', async () => {
  const { turns, said, client } = setup();
  const clients = ['a', 'b', 'c'].map(client);
  await atWork(turns, clients);
  said.length = 0;
  for (const each of clients) turns.ready(each);
  expect(said).toEqual(['a works', 'b works', 'c works']);
  await endOfRound();
  expect(said.slice(3)).toEqual(['a gets', 'b gets', 'c gets']);
});

test('of very many a part leaves before', async () => {
  const { turns, said, client } = setup();
  const clients = Array.from({ length: GATHERED_MAX + 1 }, (_, i) => client(String(i)));
  await atWork(turns, clients);
  said.length = 0;
  for (const each of clients) turns.ready(each);
  expect(said.filter((line) => line.endsWith('gets'))).toHaveLength(GATHERED_MAX);
  await endOfRound();
  expect(said).toHaveLength(2 * clients.length);
});

test('once there are few again nothing is gathered', async () => {
  const { turns, said, client } = setup();
  const clients = ['a', 'b', 'c'].map(client);
  await atWork(turns, clients);
  const [one] = clients as [Client];
  turns.ready(one);
  await endOfRound();
  said.length = 0;
  turns.ready(one);
  expect(said).toEqual(['a works', 'a gets']);
});

test('what comes from elsewhere does not wait for clients that have gone quiet', async () => {
  const { turns, said, client } = setup();
  await atWork(turns, ['a', 'b', 'c'].map(client));
  said.length = 0;
  turns.toFlush(client('one'));
  await Promise.resolve();
  expect(said).toEqual(['one gets']);
});
