import type { MmioDevice } from '#vmm/base/ports';

/** A BAR that decodes now. */
export interface DecodedBar {
  /** Requester id of the function. */
  readonly rid: number;
  readonly name: string;
  readonly index: number;
  readonly address: number;
  readonly bytes: number;
  readonly device: MmioDevice;
}

/** A stretch of addresses that one BAR answers. */
export interface Route {
  readonly first: number;
  /** Exclusive. */
  readonly end: number;
  readonly bar: DecodedBar;
}

/** All of a BAR. */
export const routeOf = (bar: DecodedBar): Route => ({ first: bar.address, end: bar.address + bar.bytes, bar });

/**
 * Address → BAR. Where the guest made BARs overlap, the one that comes first in the list answers: the lowest
 * function, then the lowest BAR index. On real hardware both would, with undefined results.
 */
export class Routes {
  /** Disjoint, by ascending address. */
  #routes: Route[] = [];

  set(wanted: readonly Route[]): void {
    let routes = wanted.toSorted((a, b) => a.first - b.first);
    const overlap = routes.some((route, i) => i > 0 && routes[i - 1]!.end > route.first);
    if (overlap) {
      routes = [];
      for (const route of wanted) routes.push(...uncovered(routes, route));
      routes.sort((a, b) => a.first - b.first);
    }
    this.#routes = routes;
  }

  /** The route that holds the whole access. */
  find(address: number, bytes: number): Route | undefined {
    let low = 0;
    let high = this.#routes.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#routes[middle]!.first <= address) low = middle + 1;
      else high = middle;
    }
    const route = this.#routes[low - 1];
    return route && address + bytes <= route.end ? route : undefined;
  }
}

/** The parts of `wanted` that no route has yet. */
function uncovered(routes: readonly Route[], wanted: Route): Route[] {
  let parts: Route[] = [wanted];
  for (const taken of routes) {
    parts = parts.flatMap((part) => {
      if (taken.end <= part.first || taken.first >= part.end) return [part];
      const left = { ...part, end: taken.first };
      const right = { ...part, first: taken.end };
      return [left, right].filter((rest) => rest.first < rest.end);
    });
  }
  return parts;
}
