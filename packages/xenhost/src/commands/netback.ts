/** Asks netback of this run directory over its control socket. */
import { type IncomingMessage, request } from 'node:http';
import { hostPaths } from '@xenhost/daemon-kit';
import { hostEnv } from '../host.ts';
import { runDirectory, type Values } from './options.ts';

const HTTP_OK = 200;

/** The answer's body as it comes; what netback refuses becomes an error. */
export async function askNetback(values: Values, path: string): Promise<IncomingMessage> {
  const socketPath = hostPaths(hostEnv(runDirectory(values))).netbackControl;
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const asked = request({ socketPath, path }, resolve);
    asked.on('error', (error) => {
      reject(new Error(`no netback answers at ${socketPath}: ${error.message}`, { cause: error }));
    });
    asked.end();
  });
  if (response.statusCode === HTTP_OK) return response;
  throw new Error((await textOf(response)).trim());
}

export async function textOf(response: IncomingMessage): Promise<string> {
  let text = '';
  response.setEncoding('utf8');
  for await (const part of response) text += String(part);
  return text;
}
