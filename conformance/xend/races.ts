/** Many clients at one name: one create of twenty wins, every destroy ends well, and nothing is left when all are through. */
import { assert, until, type Report, type RpcConnection } from '@xenhost/testkit';
import { XmlRpcFault, type XmlRpcValue } from '@xenhost/xmlrpc-codec';
import type { World } from './world.ts';

const CLIENTS = 20;
const NAME = 'race';

type Outcome = 'done' | XmlRpcFault;

export async function runRaces(world: World, report: Report): Promise<void> {
  const clients = await Promise.all(Array.from({ length: CLIENTS }, () => world.connect()));
  const all = (call: (client: RpcConnection, i: number) => Promise<XmlRpcValue>): Promise<Outcome[]> =>
    Promise.all(
      clients.map((client, i) =>
        call(client, i).then(
          () => 'done' as const,
          (error: unknown) => {
            if (error instanceof XmlRpcFault) return error;
            throw error;
          },
        ),
      ),
    );
  const storeBefore = await emptyStore(world);

  await report.case(`${CLIENTS} creates of one name`, async () => {
    const outcomes = await all((client) => client.call('xend.domain.create', world.config(NAME)));
    const faults = outcomes.filter((outcome) => outcome !== 'done');
    assert(faults.length === CLIENTS - 1, `${CLIENTS - faults.length} of them made a domain`);
    for (const { faultCode, faultString } of faults) {
      const told = faultCode === 2 && faultString.startsWith(`Domain '${NAME}' already exists`);
      assert(told, `fault ${faultCode}: ${faultString}`);
    }
    assert((await world.names()).filter((name) => name === NAME).length === 1, 'not one domain of that name');
  });
  await report.case(`${CLIENTS} destroys of one name`, async () => {
    const outcomes = await all((client) => client.call('xend.domain.destroy', NAME));
    const faults = outcomes.filter((outcome) => outcome !== 'done');
    assert(faults.length < CLIENTS, 'nobody destroyed it');
    for (const { faultCode, faultString } of faults) {
      assert(faultCode === 3 && faultString === NAME, `fault ${faultCode}: ${faultString}`);
    }
    await nothingLeft(world, storeBefore);
  });
  await report.case(`${CLIENTS} clients create, pause, rename and destroy one name`, async () => {
    let made = 0;
    for (let round = 0; round < 3; round++) {
      const outcomes = await all((client, i) => {
        switch (i % 5) {
          case 0:
          case 1:
            return client.call('xend.domain.create', world.config(NAME));
          case 2:
            return client.call('xend.domain.unpause', NAME);
          case 3:
            return client.call('xend.domain.setName', NAME, `${NAME}-${i}`);
          default:
            return client.call('xend.domain.destroy', NAME);
        }
      });
      for (const outcome of outcomes) {
        if (outcome !== 'done') assert(outcome.faultCode !== 1, `fault 1: ${outcome.faultString}`);
        else made++;
      }
    }
    for (const name of await world.names()) {
      if (name.startsWith(NAME)) await world.call('xend.domain.destroy', name);
    }
    await nothingLeft(world, storeBefore);
    return `${made} calls went through`;
  });
  await report.case(`${CLIENTS} domains at once, and away`, async () => {
    const made = await all((client, i) => client.call('xend.domain.create', world.config(`${NAME}${i}`)));
    assert(
      made.every((outcome) => outcome === 'done'),
      String(made.find((outcome) => outcome !== 'done')),
    );
    const gone = await all((client, i) => client.call('xend.domain.destroy', `${NAME}${i}`));
    assert(
      gone.every((outcome) => outcome === 'done'),
      String(gone.find((outcome) => outcome !== 'done')),
    );
    await nothingLeft(world, storeBefore);
  });
  for (const client of clients) client.close();
}

/** What xenstore holds of domains while there is none but Domain-0. */
const emptyStore = async (world: World): Promise<readonly string[]> => [
  ...(await world.store('/vm')),
  ...(await world.store('/local/domain')).filter((line) => !line.startsWith('/local/domain/0/')),
  ...(await world.store('/local/domain/0/backend')),
];

async function nothingLeft(world: World, before: readonly string[]): Promise<void> {
  await until('nothing is left', async () => {
    const names = await world.names();
    return (
      names.every((name) => !name.startsWith(NAME)) &&
      JSON.stringify(await emptyStore(world)) === JSON.stringify(before)
    );
  });
}
