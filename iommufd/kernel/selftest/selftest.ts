import type { Command } from '../command.ts';
import type { Context } from '../context.ts';

/** What a kernel built with CONFIG_IOMMUFD_TEST has more. */
export interface Selftest {
  /** IOMMU_TEST_CMD. */
  command(context: Context, command: Command): number;
  /** IOMMU_IOAS_COPY's IOVA in the fuzzer's form (nth area, offset), converted in place; the flags without the mark. */
  convertIova(context: Context, command: Command, flags: number, id: number, iova: number): number;
}
