import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { needOf, type Translation, type TranslationFault, type TranslationRequest } from './translation.ts';
import { type AddressSpace, Translator } from './translator.ts';
import { Shadow } from './table-shadow.ts';
import type { TableKind, WalkObserver } from './walk-observer.ts';

/** One entry that a walk read, in the order of the walk. */
export interface TableRead {
  readonly table: TableKind;
  readonly level: number;
  readonly gpa: bigint | undefined;
  readonly hpa: bigint;
  /** Undefined: memory did not answer. */
  readonly words: readonly bigint[] | undefined;
  /** Said right behind it: why the walk ended, or what it did to the entry. */
  readonly notes: readonly string[];
}
export interface Probed {
  readonly reads: readonly TableRead[];
  readonly result: Translation | TranslationFault;
  /** What of the reads led to the requester's contexts, where it is known to be unchanged since another walk. */
  readonly way?: Shadow | undefined;
}

/** The way to a requester's contexts, which the probe's own caches hold. */
interface Way {
  readonly shadow: Shadow;
  readonly mode: number;
  readonly rootPpn: bigint;
  readonly bigEndian: boolean;
  readonly deviceId: number;
  /** -1 where it has none. */
  readonly processId: number;
}

const noNotes: readonly string[] = [];
const directories: ReadonlySet<TableKind> = new Set<TableKind>(['DDT', 'DC', 'PDT', 'PC']);

/**
 * Asks what memory says now: the translator's own walk with every entry read, nothing cached and nothing changed (A and
 * D are not stored). It looks at the registers of another translator, and leaves its caches alone.
 */
export class Probe implements WalkObserver {
  readonly #of: Translator;
  readonly #translator: Translator;
  readonly #words: Int32Array | undefined;
  #reads: (TableRead & { notes: readonly string[] })[] = [];
  #way: Way | undefined;

  /**
   * With `words`, the host's memory, the directories are not walked again for the same requester while every entry on the
   * way to its contexts is what it was.
   */
  constructor(of: Translator, memory: MemoryPort, words?: Int32Array) {
    this.#of = of;
    this.#words = words;
    const readOnly: MemoryPort = { load: (at, into) => memory.load(at, into), store: () => access.ok };
    // Caches are emptied before each walk: small ones will do.
    const caches = { deviceContexts: 1, processContexts: 4 };
    this.#translator = new Translator({ memory: readOnly, features: of.features, qosMask: of.qosMask, ...caches });
    this.#translator.observer = this;
  }

  read(
    table: TableKind,
    level: number,
    gpa: bigint | undefined,
    hpa: bigint,
    words: readonly bigint[] | undefined,
  ): void {
    this.#reads.push({ table, level, gpa, hpa, words, notes: noNotes });
  }

  note(words: string): void {
    const last = this.#reads.at(-1);
    if (last) last.notes = [...last.notes, words];
  }

  translate(request: TranslationRequest): Probed {
    const words = this.#words;
    const way = this.#way;
    if (words && way && this.#isSameWay(way, request) && way.shadow.holds(words)) {
      this.#reads = [];
      return { result: this.#translator.translate(request), reads: this.#reads, way: way.shadow };
    }
    this.#begin();
    const result = this.#translator.translate(request);
    const reads = this.#reads;
    if (!words || !result.ok || request.type === 'translated') return { reads, result };
    // A translation: all contexts on its way were good, and are cached now.
    const count = reads.findLastIndex(({ table }) => directories.has(table)) + 1;
    const shadow = new Shadow(words, reads.slice(0, count));
    const { mode, rootPpn, bigEndian } = this.#of;
    const processId = request.processIdValid ? request.processId : -1;
    this.#way = { shadow, mode, rootPpn, bigEndian, deviceId: request.deviceId, processId };
    return { reads: reads.slice(count), result, way: shadow };
  }

  #isSameWay(way: Way, { deviceId, processIdValid, processId, type }: TranslationRequest): boolean {
    const { mode, rootPpn, bigEndian } = this.#of;
    return (
      way.deviceId === deviceId &&
      way.processId === (processIdValid ? processId : -1) &&
      type !== 'translated' &&
      way.mode === mode &&
      way.rootPpn === rootPpn &&
      way.bigEndian === bigEndian
    );
  }

  /** Which tables translate for a requester; undefined where none do. */
  space(request: TranslationRequest): AddressSpace | undefined {
    this.#begin();
    const entered = this.#translator.enter(request, needOf(request));
    return 'ok' in entered ? undefined : entered;
  }

  #begin(): void {
    const translator = this.#translator;
    const { mode, rootPpn, bigEndian } = this.#of;
    Object.assign(translator, { mode, rootPpn, bigEndian });
    translator.deviceContexts.clear();
    translator.processContexts.clear();
    this.#way = undefined;
    this.#reads = [];
  }
}
