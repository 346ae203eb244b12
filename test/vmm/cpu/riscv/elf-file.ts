/** An executable of one segment, which may be read, written and executed, from its bytes and where they belong. */
export const elfFile = (memory: Uint8Array, base: number): Uint8Array => {
  const offset = 0x1000;
  const file = new Uint8Array(offset + memory.length);
  const view = new DataView(file.buffer);
  file.set([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1]);
  view.setUint16(16, 2, true); // ET_EXEC
  view.setUint16(18, 243, true); // EM_RISCV
  view.setUint32(20, 1, true);
  view.setBigUint64(24, BigInt(base), true);
  view.setBigUint64(32, 64n, true);
  view.setUint32(48, 5, true); // RVC, double-float ABI
  view.setUint16(52, 64, true);
  view.setUint16(54, 56, true);
  view.setUint16(56, 1, true);
  view.setUint32(64, 1, true); // PT_LOAD, rwx
  view.setUint32(68, 7, true);
  [offset, base, base, memory.length, memory.length, 0x1000].forEach((value, i) =>
    view.setBigUint64(72 + 8 * i, BigInt(value), true),
  );
  file.set(memory, offset);
  return file;
};
