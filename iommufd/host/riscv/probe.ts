import { access, type MemoryPort } from '#iommufd/arch/riscv/ports';
import { needOf, type Translation, type TranslationFault, type TranslationRequest } from './translation.ts';
import { type AddressSpace, Translator } from './translator.ts';
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
}

/**
 * Asks what memory says now: the translator's own walk with every entry read, nothing cached and nothing changed (A and
 * D are not stored). It looks at the registers of another translator, and leaves its caches alone.
 */
export class Probe implements WalkObserver {
  readonly #of: Translator;
  readonly #translator: Translator;
  #reads: (TableRead & { readonly notes: string[] })[] = [];

  constructor(of: Translator, memory: MemoryPort) {
    this.#of = of;
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
    this.#reads.push({ table, level, gpa, hpa, words, notes: [] });
  }

  note(words: string): void {
    this.#reads.at(-1)?.notes.push(words);
  }

  translate(request: TranslationRequest): Probed {
    this.#begin();
    const result = this.#translator.translate(request);
    return { reads: this.#reads, result };
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
    this.#reads = [];
  }
}
