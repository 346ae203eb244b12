import { register } from '#vmm/base/bits';
import type { AccessBytes, MmioDevice } from '#vmm/base/ports';

/** How a guest ended its run. `reset` asks for the machine to start again. */
export interface Finish {
  readonly outcome: 'pass' | 'fail' | 'reset';
  /** The guest's failure code, 0 … 65535; 0 unless it failed. */
  readonly code: number;
}

const finish = register({
  width: 32,
  spec: 'SiFive test finisher, FINISHER 0x000',
  fields: { status: { bits: [15, 0], access: 'wo' }, code: { bits: [31, 16], access: 'wo' } },
});

// prettier-ignore
const statuses = {
  0x5555: { outcome: 'pass',  carriesCode: false },
  0x3333: { outcome: 'fail',  carriesCode: true  },
  0x7777: { outcome: 'reset', carriesCode: false },
} as const satisfies Record<number, { outcome: Finish['outcome']; carriesCode: boolean }>;

/** The `sifive,test0` device: one store says that the guest is done. Stores of any other value do nothing. */
export class Finisher implements MmioDevice {
  readonly #onFinish: (finish: Finish) => void;

  constructor(onFinish: (finish: Finish) => void) {
    this.#onFinish = onFinish;
  }

  read(_offset: number, bytes: AccessBytes): number | bigint {
    return bytes === 8 ? 0n : 0;
  }

  write(offset: number, bytes: AccessBytes, value: number | bigint): void {
    if (offset !== 0 || (bytes !== 4 && bytes !== 2)) return;
    const { status, code } = finish.decode(BigInt(value));
    const row = statuses[Number(status) as keyof typeof statuses] as
      (typeof statuses)[keyof typeof statuses] | undefined;
    if (row) this.#onFinish({ outcome: row.outcome, code: row.carriesCode ? Number(code) : 0 });
  }

  reset(): void {}
}
