// The few functions of <string.h> that the compiler and the programs call.
#include "base.h"

void *memcpy(void *to, const void *from, u64 bytes) {
  u8 *t = to;
  const u8 *f = from;
  if ((((u64)t | (u64)f) & 7) == 0) {
    for (; bytes >= 8; bytes -= 8, t += 8, f += 8) *(u64 *)t = *(const u64 *)f;
  }
  for (; bytes > 0; bytes--) *t++ = *f++;
  return to;
}

void *memset(void *to, int value, u64 bytes) {
  u8 *t = to;
  if (((u64)t & 7) == 0) {
    u64 word = (u8)value * 0x0101010101010101ul;
    for (; bytes >= 8; bytes -= 8, t += 8) *(u64 *)t = word;
  }
  for (; bytes > 0; bytes--) *t++ = (u8)value;
  return to;
}

int memcmp(const void *a, const void *b, u64 bytes) {
  const u8 *x = a, *y = b;
  for (; bytes > 0; bytes--, x++, y++)
    if (*x != *y) return *x - *y;
  return 0;
}

u64 strlen(const char *text) {
  u64 length = 0;
  while (text[length] != 0) length++;
  return length;
}

int strcmp(const char *a, const char *b) {
  while (*a != 0 && *a == *b) a++, b++;
  return (u8)*a - (u8)*b;
}

int strncmp(const char *a, const char *b, u64 bytes) {
  for (; bytes > 0; bytes--, a++, b++) {
    if (*a != *b) return (u8)*a - (u8)*b;
    if (*a == 0) return 0;
  }
  return 0;
}
