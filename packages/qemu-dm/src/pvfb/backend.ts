/**
 * The backend of a virtual framebuffer (`xen/include/public/io/fbif.h`): takes the guest's events, looks at what it has
 * drawn when somebody wants to see it, and stores that into the screen.
 */
import { bytesOf, domid as domidOf } from '@xenhost/base';
import type { Logger } from '@xenhost/daemon-kit';
import type { PrivcmdPort } from '@xenhost/privcmd';
import {
  XENFB_IN_RING, XENFB_NO_REFRESH, XENFB_OUT_RING, XEN_IO_PROTO_ABI_X86_32, XenfbEvent, XenfbRefreshPeriod, XenfbResize,
  XenfbUpdate,
} from '@xenhost/xen-abi'; // prettier-ignore
import { EventPage, type Taken } from '../device/event-page.ts';
import { openRingPage } from '../device/ring-page.ts';
import { FrontendFault, type FrontendNodes, type SplitDriver } from '../device/split-device.ts';
import { IDLE_MS, MAX_FRAMEBUFFER_BYTES, MAX_POLL_MS, READ_SHARE, REFRESH_MS } from '../limits.ts';
import { TILE_HEIGHT, type Screen, type ScreenSource } from '../screen.ts';
import { Framebuffer } from './framebuffer.ts';
import { fitGeometry, type Geometry } from './geometry.ts';
import { RowReader } from './pixels.ts';

const MIB = 1024 * 1024;

export interface VfbOptions {
  readonly domid: number;
  /** MiB that the guest's framebuffer may have; undefined leaves it to the guest. */
  readonly videoramMiB?: number | undefined;
}

export interface VfbModules {
  readonly privcmd: PrivcmdPort;
  readonly screen: Screen;
  readonly log: Logger;
}

export class Vfb implements SplitDriver {
  readonly #options: VfbOptions;
  readonly #modules: VfbModules;
  #connection: Connection | undefined;

  constructor(options: VfbOptions, modules: VfbModules) {
    this.#options = options;
    this.#modules = modules;
  }

  get features(): Record<string, number> {
    const { videoramMiB } = this.#options;
    return { 'feature-resize': 1, ...(videoramMiB === undefined ? {} : { videoram: videoramMiB }) };
  }

  async connect(frontend: FrontendNodes): Promise<Record<string, number>> {
    const { privcmd, log } = this.#modules;
    const { domid, videoramMiB } = this.#options;
    const [protocol, featureUpdate] = await Promise.all([frontend.read('protocol'), frontend.read('feature-update')]);
    const { page, port } = await openRingPage(domid, frontend, privcmd);
    const unbind = (): Promise<void> => privcmd.unbind(port).catch(() => undefined);
    const framebuffer = await Framebuffer.open(
      {
        domid: domidOf(domid),
        page,
        bits: protocol === XEN_IO_PROTO_ABI_X86_32 ? 32 : 64,
        maxBytes: videoramMiB === undefined ? MAX_FRAMEBUFFER_BYTES : videoramMiB * MIB,
      },
      privcmd,
    );
    if (typeof framebuffer === 'string') {
      await unbind();
      throw new FrontendFault(`no framebuffer: ${framebuffer}`);
    }
    const periods: number[] = [];
    const ring = await EventPage.open(
      { page, port, in: XENFB_IN_RING, out: XENFB_OUT_RING },
      { privcmd, pull: () => periods.splice(0).map(refreshPeriod) },
    );
    if (!ring) {
      await unbind();
      throw new FrontendFault('its page cannot be read');
    }
    const tells = featureUpdate === '1';
    const connection = new Connection({ framebuffer, ring, tells, periods }, this.#modules);
    const stopEvents = privcmd.onEvent((raised) => {
      if (raised === port) connection.event();
    });
    connection.onEnd = async () => {
      stopEvents();
      await unbind();
    };
    this.#connection = connection;
    this.#modules.screen.setSource(connection);
    connection.event();
    const { width, height, depth } = framebuffer.geometry;
    log.info({ width, height, depth, bytes: framebuffer.length, tells }, 'framebuffer');
    return tells ? { 'request-update': 1 } : {};
  }

  async disconnect(): Promise<void> {
    const connection = this.#connection;
    if (!connection) return;
    this.#connection = undefined;
    this.#modules.screen.setSource(undefined);
    await connection.end();
  }
}

function refreshPeriod(period: number): Uint8Array {
  const event = new Uint8Array(40);
  event.set(XenfbRefreshPeriod.create({ type: XenfbEvent.refreshPeriod, period }).bytes);
  return event;
}

interface ConnectionOptions {
  readonly framebuffer: Framebuffer;
  readonly ring: EventPage;
  /** Whether the guest sends an event for what it draws. */
  readonly tells: boolean;
  /** The ring's next refresh periods. */
  readonly periods: number[];
}

/** One frontend, as long as it is connected. */
class Connection implements ScreenSource {
  onEnd: () => Promise<void> = () => Promise.resolve();
  readonly #options: ConnectionOptions;
  readonly #modules: VfbModules;
  #geometry: Geometry;
  #rows: RowReader;
  /** Of each band of rows, whether the guest has drawn there since it was looked at. */
  #drawn: Uint8Array;
  #watched = false;
  #eventTimer: NodeJS.Timeout | undefined;
  #lookTimer: NodeJS.Timeout | undefined;
  #takenAt = 0;
  /** When the screen may be looked at next. */
  #lookAt = 0;
  #pollMs = REFRESH_MS;
  #looking: Promise<void> | undefined;
  #taking: Promise<void> | undefined;
  #again = false;
  #ended = false;

  constructor(options: ConnectionOptions, modules: VfbModules) {
    this.#options = options;
    this.#modules = modules;
    this.#geometry = options.framebuffer.geometry;
    this.#rows = new RowReader(this.#geometry);
    this.#drawn = this.#allBands();
    modules.screen.resize(this.#geometry.width, this.#geometry.height);
  }

  async end(): Promise<void> {
    this.#ended = true;
    clearTimeout(this.#eventTimer);
    clearTimeout(this.#lookTimer);
    this.#options.ring.close();
    await this.onEnd();
    await Promise.all([this.#looking, this.#taking]);
  }

  watched(watched: boolean): void {
    this.#watched = watched;
    this.#options.periods.splice(0, Infinity, watched ? REFRESH_MS : XENFB_NO_REFRESH);
    this.#options.ring.send();
    if (watched && this.#eventTimer) this.event();
  }

  wanted(): void {
    this.#schedule();
  }

  /** The guest has put something into its ring. It is left there for a while: a full ring makes the guest gather what it draws. */
  event(): void {
    if (this.#ended) return;
    this.#options.ring.send();
    clearTimeout(this.#eventTimer);
    const due = this.#takenAt + (this.#watched ? REFRESH_MS : IDLE_MS) - performance.now();
    this.#eventTimer = setTimeout(
      () => {
        this.#eventTimer = undefined;
        this.#take();
      },
      Math.max(0, due),
    );
  }

  #take(): void {
    this.#again = true;
    if (this.#taking || this.#ended) return;
    this.#again = false;
    this.#takenAt = performance.now();
    this.#taking = this.#options.ring
      .take()
      .then((taken) => {
        this.#handleAll(taken);
      })
      .catch((error: unknown) => {
        if (!this.#ended) this.#modules.log.warn({ err: error }, 'cannot take events');
      })
      .finally(() => {
        this.#taking = undefined;
        if (this.#again) this.#take();
      });
  }

  #handleAll(taken: Taken): void {
    if (this.#ended || taken.kind === 'gone') return;
    if (taken.kind === 'wild') {
      this.#modules.log.warn('the guest has put more events into its ring than it holds');
      this.#drawn.fill(1);
    } else {
      for (const event of taken.events) this.#handle(event);
    }
    if (this.#modules.screen.waiting) this.#schedule();
  }

  #handle(event: Uint8Array): void {
    if (event[0] === XenfbEvent.update) {
      const { y, height } = XenfbUpdate.view(bytesOf(event), 0);
      const top = Math.max(0, y);
      const bottom = Math.min(y + height, this.#geometry.height);
      if (bottom > top) this.#drawn.fill(1, Math.floor(top / TILE_HEIGHT), Math.ceil(bottom / TILE_HEIGHT));
    } else if (event[0] === XenfbEvent.resize) {
      this.#resize(XenfbResize.view(bytesOf(event), 0));
    }
    // What is of another type the backend has not asked for.
  }

  #resize({ width, height, stride, depth, offset }: Geometry): void {
    const { framebuffer } = this.#options;
    const wanted = { width, height, stride, depth, offset };
    const geometry = fitGeometry(wanted, framebuffer.length);
    if (typeof geometry === 'string') {
      this.#modules.log.warn({ wanted, reason: geometry }, 'the guest asks for a size that it cannot have');
      return;
    }
    this.#geometry = geometry;
    this.#rows = new RowReader(geometry);
    this.#drawn = this.#allBands();
    this.#modules.screen.resize(geometry.width, geometry.height);
  }

  #allBands(): Uint8Array {
    return new Uint8Array(Math.ceil(this.#geometry.height / TILE_HEIGHT)).fill(1);
  }

  /** A guest that does not tell what it draws may have drawn anything. */
  #hasNews(): boolean {
    return !this.#options.tells || this.#drawn.includes(1);
  }

  /** Sees to it that whoever waits for news gets it: at once where there is none, else after a look in due time. */
  #schedule(): void {
    if (this.#ended || this.#looking || this.#lookTimer) return;
    if (!this.#hasNews()) {
      this.#modules.screen.ready();
      return;
    }
    this.#lookTimer = setTimeout(
      () => {
        this.#lookTimer = undefined;
        this.#looking = this.#look()
          .catch((error: unknown) => {
            if (!this.#ended) this.#modules.log.warn({ err: error }, 'cannot look at the screen');
          })
          .finally(() => {
            this.#looking = undefined;
            if (this.#modules.screen.waiting && this.#hasNews()) this.#schedule();
          });
      },
      Math.max(0, this.#lookAt - performance.now()),
    );
  }

  async #look(): Promise<void> {
    const { screen } = this.#modules;
    const startedAt = performance.now();
    if (!this.#options.tells) this.#drawn.fill(1);
    const drawn = this.#drawn;
    for (let band = drawn.indexOf(1); band >= 0 && drawn === this.#drawn; band = drawn.indexOf(1)) {
      let end = band;
      while (drawn[end] === 1) drawn[end++] = 0;
      await this.#readRows(band * TILE_HEIGHT, Math.min(end * TILE_HEIGHT, this.#geometry.height));
      if (this.#ended) return;
    }
    const changed = screen.publish();
    const tookMs = performance.now() - startedAt;
    this.#pollMs = changed || this.#options.tells ? REFRESH_MS : Math.min(this.#pollMs * 2, MAX_POLL_MS);
    this.#lookAt = startedAt + Math.max(this.#pollMs, tookMs * READ_SHARE);
    screen.ready();
  }

  async #readRows(top: number, bottom: number): Promise<void> {
    const geometry = this.#geometry;
    const { stride, offset } = geometry;
    const bytes = await this.#options.framebuffer.read(offset + top * stride, (bottom - top) * stride);
    // Another size may have come meanwhile: these rows are of the old one.
    if (this.#ended || geometry !== this.#geometry) return;
    for (let y = top; y < bottom; y++) this.#modules.screen.storeRow(y, this.#rows.read(bytes, (y - top) * stride));
  }
}
