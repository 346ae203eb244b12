#include "crc32.h"

static u32 table[256];

u32 crc32(u32 crc, const void *data, u64 bytes) {
  if (table[1] == 0)
    for (u32 i = 0; i < 256; i++) {
      u32 value = i;
      for (int bit = 0; bit < 8; bit++) value = value >> 1 ^ (value & 1 ? 0xedb88320 : 0);
      table[i] = value;
    }
  const u8 *p = data;
  crc = ~crc;
  for (; bytes > 0; bytes--) crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
  return ~crc;
}
