/**
 * Makes holes in open files. Node has no fallocate(2), so util-linux's command does it, started by one shell for the whole process: to start a
 * command from here would stop this process for as long as its memory takes to be marked for the fork (116 ms of a daemon's 200 MiB on a busy
 * machine); the shell needs 4 ms for each, in its own time. It ends when its input does, which is with this process.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { createInterface } from 'node:readline';
import type { Socket } from 'node:net';

/** The file is named as our open one: a path may mean another by now. Answers one line for each of its input. */
const SCRIPT = `while read -r offset length fd; do
  if fallocate --punch-hole --offset "$offset" --length "$length" "/proc/$1/fd/$fd" 2>/dev/null; then echo y; else echo n; fi
done`;

type Answer = (done: boolean) => void;

class Puncher {
  #child: ChildProcess | undefined;
  readonly #waiting: Answer[] = [];

  /** Whether the hole is there. The file must stay open until this resolves. */
  punch(fd: number, offset: number, length: number): Promise<boolean> {
    const child = (this.#child ??= this.#start());
    return new Promise((resolve) => {
      this.#waiting.push(resolve);
      this.#hold(child);
      child.stdin?.write(`${offset} ${length} ${fd}\n`);
    });
  }

  #start(): ChildProcess {
    const child = spawn('/bin/sh', ['-c', SCRIPT, 'sh', String(process.pid)], { stdio: ['pipe', 'pipe', 'ignore'] });
    const gone = (): void => {
      if (this.#child !== child) return;
      this.#child = undefined;
      for (const answer of this.#waiting.splice(0)) answer(false);
    };
    child.on('error', gone);
    child.on('exit', gone);
    // What is written to one that is gone: its end has been told.
    child.stdin.on('error', gone);
    child.unref();
    (child.stdin as Socket).unref();
    createInterface({ input: child.stdout }).on('line', (line) => {
      if (this.#child === child) this.#waiting.shift()?.(line === 'y');
      this.#hold(child);
    });
    return child;
  }

  /** Keeps this process alive only while an answer is due. */
  #hold(child: ChildProcess): void {
    const output = child.stdout as Socket;
    if (this.#waiting.length > 0) output.ref();
    else output.unref();
  }
}

export const puncher = new Puncher();
