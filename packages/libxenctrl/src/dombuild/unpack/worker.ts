/** Entry of the worker thread that unpacks one payload and ends: seconds of work that must not stop a daemon. */
import { parentPort, workerData } from 'node:worker_threads';
import { slowUnpack } from './slow.ts';
import type { SlowRequest } from './slow.ts';

const unpacked = await slowUnpack(workerData as SlowRequest);
const own = unpacked.byteLength === unpacked.buffer.byteLength ? unpacked : unpacked.slice();
parentPort?.postMessage(own, [own.buffer as ArrayBuffer]);
