import { MessageChannel, receiveMessageOnPort } from 'node:worker_threads';
import { CompilerClient } from './compiler-client.ts';

const done = new SharedArrayBuffer(8);
const words = new Int32Array(done);
const { port1, port2 } = new MessageChannel();
const client = new CompilerClient({ pcpu: 1, port: port2, done });
afterAll(() => {
  port1.close();
});

/** The thread's end of it: the next order's number. */
const nextOrder = (): unknown => (receiveMessageOnPort(port1) as { message: { id: number } } | undefined)?.message.id;
const answer = (id: number): void => {
  port1.postMessage({ id, module: undefined, bytes: 0, compileNs: 0 });
  Atomics.add(words, 1, 1);
};

test('orders arrive, what is done is taken once and in order', () => {
  for (const id of [7, 8]) client.orderCompilation({ id, regions: [] });
  expect([nextOrder(), nextOrder(), nextOrder()]).toEqual([7, 8, undefined]);
  expect(client.takeCompiled()).toBeUndefined();
  answer(7);
  answer(8);
  expect([client.takeCompiled()?.id, client.takeCompiled()?.id]).toEqual([7, 8]);
  expect(client.takeCompiled()).toBeUndefined();
});

test('the word of another pCPU says nothing', () => {
  Atomics.add(words, 0, 1);
  expect(client.takeCompiled()).toBeUndefined();
});
