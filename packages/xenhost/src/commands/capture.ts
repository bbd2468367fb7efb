/** `xenhost capture`: frames of a bridge or a vif to a pcap file, until the count, Ctrl-C or the end of the output. */
import { createWriteStream } from 'node:fs';
import { finished } from 'node:stream/promises';
import { askNetback } from './netback.ts';
import { text, type Values } from './options.ts';

export async function capture(values: Values, positionals: readonly string[]): Promise<number> {
  const [of, ...more] = positionals;
  if (of === undefined || more.length > 0) throw new Error('one bridge or vif to capture: xenbr0, vif1.0');
  const file = text(values, 'write') ?? `${of}.pcap`;
  const query = new URLSearchParams({ of });
  for (const name of ['count', 'snaplen']) {
    const value = text(values, name);
    if (value !== undefined) query.set(name, value);
  }
  const response = await askNetback(values, `/capture?${query.toString()}`);
  const output = file === '-' ? process.stdout : createWriteStream(file);
  if (file !== '-') process.stderr.write(`capturing ${of} to ${file}; Ctrl-C ends\n`);
  let stopped = false;
  const stop = (): void => {
    stopped = true;
    response.destroy();
  };
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, stop);
  // A reader that has seen enough (tcpdump -c) is no error.
  output.on('error', stop);
  response.pipe(output, { end: file !== '-' });
  await finished(response).catch((error: unknown) => {
    output.end();
    if (!stopped) throw error;
  });
  if (file !== '-') await finished(output);
  const missed = response.trailers['x-missed'];
  if (missed !== undefined && missed !== '0') process.stderr.write(`${missed} frames were missed\n`);
  return 0;
}
