import { offsets, pqcsr } from '#iommufd/arch/riscv/registers';
import { atsDeviceId, Driver, places } from '../viommu/riscv/harness.ts';

/** What a soak did, and that it left nothing. */
interface PriSoak {
  readonly groups: number;
  readonly answers: number;
  readonly byCode: Readonly<Record<number, number>>;
  readonly invalidations: number;
  readonly faults: number;
  readonly contexts: number;
}

const functions = 3;
const firstPage = 0x12_3456_0000n;

/**
 * A hostile device side and a careless guest, in random order: page requests of groups that overlap, answers late, twice
 * and to nobody, contexts and queues that change in mid-flight, invalidations that devices hold. Every finished group
 * must be answered exactly once, and nothing may be left at the end.
 * @throws Error with the step at which it went wrong
 */
export const soakPri = (seed: number, steps: number): PriSoak => {
  let state = seed >>> 0 || 1;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const driver = new Driver(1, functions);
  const { machine } = driver;
  driver.enableDirectory();
  driver.enablePageRequests(4);
  const valid = [() => driver.sharing(1), () => driver.sharing(2), () => driver.sharing(1, 0x10n)];
  const contexts = [
    ...valid,
    ...valid,
    ...valid,
    () => driver.sharing(1).map((word, i) => (i === 0 ? word & ~0x44n : word)),
    () => driver.sharing(1).map((word, i) => (i === 0 ? word & ~0x46n : word)),
    () => driver.sharing(1, 8n),
    () => [0n, 0n, 0n, 0n],
  ];
  const count = { groups: 0, answers: 0, invalidations: 0, faults: 0, contexts: 0 };
  const byCode: Record<number, number> = {};
  const todo: { deviceId: number; pasid: number; index: number }[] = [];
  const pick = () => driver.functions[random(functions)]!;
  const iova = (): bigint => firstPage + BigInt(random(8)) * 4096n;
  const deviceId = (): bigint => BigInt(random(12) === 0 ? random(0x10000) : atsDeviceId + 8 * random(functions));
  const collect = (): void => {
    for (const fn of driver.functions)
      for (const [, , code] of fn.takeResponses()) {
        count.answers++;
        byCode[code] = (byCode[code] ?? 0) + 1;
      }
  };
  const takeRequests = (): void => {
    for (const { deviceId: id, pasid, payload } of driver.takePageRequests())
      if (payload & 4n) todo.push({ deviceId: id, pasid, index: Number((payload >> 3n) & 511n) });
  };
  const setContext = (): void => {
    const id = atsDeviceId + 8 * random(functions);
    driver.setContext(id, contexts[random(contexts.length)]!());
    driver.command('IODIR.INVAL_DDT', random(2) ? {} : { DV: 1n, DID: BigInt(id) });
    count.contexts++;
  };

  const actions: readonly [weight: number, run: () => void][] = [
    [30, () => {
      const [read, write, last] = [random(2) === 1, random(2) === 1, random(4) !== 0];
      if (last && (read || write)) count.groups++;
      pick().ask(iova(), random(8), { read, write, last, pasid: random(5) - 1 });
    }],
    [12, takeRequests],
    [20, () => {
      const [one] = todo.splice(random(Math.max(1, todo.length)), random(8) === 0 ? 0 : 1);
      const target = one ?? todo[0] ?? { deviceId: Number(deviceId()), pasid: random(5) - 1, index: random(512) };
      driver.respond(target.deviceId, target.pasid, target.index, [0, 0, 0, 1, 15, 7][random(6)]!);
    }],
    [10, () => driver.map(iova(), [0n, 0xd7n, 0x53n][random(3)]!)],
    [8, () => {
      driver.command('ATS.INVAL', { RID: deviceId(), PV: 1n, PID: BigInt(random(4)), PAYLOAD: iova(), ...(random(20) ? {} : { DSV: 1n, DSEG: 1n }) });
      count.invalidations++;
    }],
    [8, () => driver.command('IOFENCE.C', {})],
    [4, () => driver.command('IOTINVAL.VMA', {})],
    [4, () => driver.command('IODIR.INVAL_PDT', { DV: 1n, DID: BigInt(atsDeviceId), PID: BigInt(random(256)) })],
    [3, setContext],
    [2, () => {
      const isOn = pqcsr.get(driver.read(offsets.pqcsr, 4), 'pqon') === 1n;
      if (isOn) driver.write(offsets.pqcsr, 4, 0n);
      else driver.enablePageRequests(2 + random(4));
    }],
    [4, () => driver.write(offsets.pqcsr, 4, pqcsr.encode({ pqen: pqcsr.get(driver.read(offsets.pqcsr, 4), 'pqen'), pqof: 1n, pqmf: 1n }))],
    [4, () => { pick().answers = random(12) !== 0; }],
    [6, () => pick().completeInvalidations()],
    [8, () => { if (pick().access(random(2) ? 'read' : 'write', random(2) ? iova() : BigInt(places.page), 1 + random(9000), random(5) - 1, random(2) === 1, random(4) === 0).faults.length > 0) count.faults++; }],
    [8, () => pick().translate(iova(), random(5) - 1, { noWrite: random(2) === 1, execute: random(4) === 0 })],
    [30, () => machine.clock.advance(random(6000))],
    [1, () => machine.clock.advance(random(4) ? 11_000_000 : 1_100_000_000)],
  ]; // prettier-ignore
  const total = actions.reduce((sum, [weight]) => sum + weight, 0);
  const fail = (step: number, why: string): never => {
    throw new Error(`soakPri(${seed}): step ${step}: ${why}`);
  };

  for (let step = 0; step < steps; step++) {
    let at = random(total);
    const action = actions.find(([weight]) => (at -= weight) < 0)!;
    action[1]();
    driver.recover();
    collect();
    if (count.answers > count.groups) fail(step, `${count.answers} answers to ${count.groups} groups`);
    if (todo.length > 1000) todo.splice(0, 500);
  }

  for (const fn of driver.functions) fn.answers = true;
  for (const fn of driver.functions) fn.completeInvalidations();
  for (let i = 0; i < functions; i++) driver.setContext(atsDeviceId + 8 * i, [0n]);
  for (let round = 0; round < 4; round++) {
    driver.command('IODIR.INVAL_DDT', {});
    machine.clock.advance(1_200_000_000);
    driver.recover();
    for (const fn of driver.functions) fn.completeInvalidations();
  }
  collect();
  if (count.answers !== count.groups) fail(steps, `${count.answers} answers to ${count.groups} groups`);
  for (const [what, left] of Object.entries(driver.leftOver())) if (left !== 0) fail(steps, `${left} ${what} left`);
  machine.close();
  return { ...count, byCode };
};

/** `soakPri` with one seed after the other, for about so many milliseconds. */
export const fuzzPri = (seed: number, milliseconds: number): { seeds: number; groups: number; answers: number } => {
  const end = Date.now() + milliseconds;
  const sum = { seeds: 0, groups: 0, answers: 0 };
  for (let at = seed; sum.seeds === 0 || Date.now() < end; at++) {
    const { groups, answers } = soakPri(at, 5000);
    sum.seeds++;
    sum.groups += groups;
    sum.answers += answers;
  }
  return sum;
};
