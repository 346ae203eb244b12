interface Member {
  readonly name: string;
  readonly offset: number;
  readonly bytes: number;
  readonly kind: string;
}

function value(member: Member, bytes: Uint8Array): bigint {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (member.bytes === 8) return view.getBigUint64(member.offset, true);
  if (member.bytes === 4)
    return BigInt(member.kind === 's32' ? view.getInt32(member.offset, true) : view.getUint32(member.offset, true));
  if (member.bytes === 2) return BigInt(view.getUint16(member.offset, true));
  return BigInt(view.getUint8(member.offset));
}
const show = (number: bigint): string => (number < 4096n ? String(number) : `0x${number.toString(16)}`);

/** `flags=3 ioas_id=1 length=0x8000000`: the members that are not zero, without the size. */
export function traceArguments(members: readonly Member[], bytes: Uint8Array): string {
  const parts: string[] = [];
  for (const member of members) {
    if (member.name === 'size' || member.kind.startsWith('u8[')) continue;
    const number = value(member, bytes);
    if (number !== 0n) parts.push(`${member.name}=${show(number)}`);
  }
  return parts.join(' ');
}

/** The members that the kernel changed. */
export function traceChanges(members: readonly Member[], before: Uint8Array, after: Uint8Array): string {
  const parts: string[] = [];
  for (const member of members) {
    if (member.kind.startsWith('u8[')) continue;
    const number = value(member, after);
    if (number !== value(member, before)) parts.push(`${member.name}=${show(number)}`);
  }
  return parts.join(' ');
}
