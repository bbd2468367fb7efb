/** Entry of the thread that compacts one journal and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { compact } from './compact.ts';
import type { CompactRequest } from './compact.ts';

parentPort?.postMessage(compact(workerData as CompactRequest));
