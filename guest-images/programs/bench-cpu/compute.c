// Kernels that compute: no traps, no translation, no new code.
#include "kernels.h"

#define TABLE 512u
static u64 table[TABLE];

// Shifts, multiplications, table loads and stores, and branches that are hard to foresee.
u64 bench_int(u64 scale) {
  u64 x = 0x2545f4914f6cdd1d, sum = 0;
  for (u64 i = 0; i < scale * 2000; i++) {
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    u64 *cell = &table[x % TABLE];
    if (x & 0x10000)
      sum += *cell * 0x9e3779b97f4a7c15;
    else
      sum ^= *cell + i;
    *cell = sum + x;
  }
  return sum;
}

// A scanner of numbers, names, strings and comments over text that repeats.
u64 bench_state(u64 scale) {
  static const char text[] = "x1 = 42 + yy*(3.75e2 - \"a \\\" b\"); # why\nif zz_9 < 0x1f { call(17, 'q') } // end\n";
  enum { BLANK, NUMBER, NAME, STRING, ESCAPE, COMMENT } state = BLANK;
  u64 counts[6] = {0}, sum = 0;
  for (u64 round = 0; round < scale * 25; round++) {
    for (const char *at = text; *at != 0; at++) {
      char c = *at;
      switch (state) {
      case BLANK:
        if (c >= '0' && c <= '9') state = NUMBER;
        else if ((c | 32) >= 'a' && (c | 32) <= 'z') state = NAME;
        else if (c == '"') state = STRING;
        else if (c == '#') state = COMMENT;
        break;
      case NUMBER: if (!((c >= '0' && c <= '9') || c == '.' || (c | 32) == 'e' || (c | 32) == 'x')) state = BLANK; break;
      case NAME: if (!((c >= '0' && c <= '9') || c == '_' || ((c | 32) >= 'a' && (c | 32) <= 'z'))) state = BLANK; break;
      case STRING: if (c == '\\') state = ESCAPE; else if (c == '"') state = BLANK; break;
      case ESCAPE: state = STRING; break;
      case COMMENT: if (c == '\n') state = BLANK; break;
      }
      counts[state]++;
    }
    sum = sum * 31 + counts[round % LENGTH(counts)];
  }
  return sum;
}

__attribute__((noinline)) static u64 fibonacci(u64 n) {
  if (n < 2) return n;
  u64 first = fibonacci(n - 1);
  __asm__ volatile("" : "+r"(first));
  return first + fibonacci(n - 2);
}
u64 bench_call(u64 scale) {
  u64 sum = 0;
  for (u64 round = 0; round < scale / 5; round++) sum = sum * 3 + fibonacci(19);
  return sum;
}

#define SIEVE (1u << 18)
static u8 composite[SIEVE];
u64 bench_sieve(u64 scale) {
  u64 sum = 0;
  for (u64 round = 0; round < scale / 50; round++) {
    for (u32 i = 0; i < SIEVE; i++) composite[i] = 0;
    for (u32 i = 2; i * i < SIEVE; i++)
      if (!composite[i])
        for (u32 j = i * i; j < SIEVE; j += i) composite[j] = 1;
    for (u32 i = 2; i < SIEVE; i++) sum += composite[i] ^ 1;
  }
  return sum;
}

#define COPY_WORDS (1u << 17)
static u64 copy_from[COPY_WORDS], copy_to[COPY_WORDS];
u64 bench_copy(u64 scale) {
  for (u32 i = 0; i < COPY_WORDS; i++) copy_from[i] = i * 0x9e3779b97f4a7c15;
  for (u64 round = 0; round < scale / 10; round++) {
    copy_from[round % COPY_WORDS]++;
    for (u32 i = 0; i < COPY_WORDS; i += 4) {
      u64 a = copy_from[i], b = copy_from[i + 1], c = copy_from[i + 2], d = copy_from[i + 3];
      copy_to[i] = a, copy_to[i + 1] = b, copy_to[i + 2] = c, copy_to[i + 3] = d;
      __asm__ volatile("" ::: "memory");
    }
  }
  u64 sum = 0;
  for (u32 i = 0; i < COPY_WORDS; i++) sum = sum * 3 + copy_to[i];
  return sum;
}

#define NODES (1u << 16)
static struct node {
  struct node *next;
  u64 value;
} nodes[NODES];
u64 bench_chase(u64 scale) {
  // One cycle through all nodes in random order (Sattolo).
  static u32 order[NODES];
  u64 x = 0x2545f4914f6cdd1d, sum = 0;
  for (u32 i = 0; i < NODES; i++) order[i] = i;
  for (u32 i = NODES - 1; i > 0; i--) {
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    u32 j = x % i, other = order[i];
    order[i] = order[j], order[j] = other;
  }
  for (u32 i = 0; i < NODES; i++) nodes[order[i]] = (struct node){&nodes[order[(i + 1) % NODES]], i};
  struct node *at = nodes;
  for (u64 i = 0; i < scale * 8000; i++) {
    sum += at->value;
    at = at->next;
  }
  return sum;
}

// Escape times of a patch of the Mandelbrot set.
u64 bench_float(u64 scale) {
  u64 sum = 0;
  for (u64 line = 0; line < scale / 10; line++) {
    for (u32 column = 0; column < 200; column++) {
      double cx = -2.0 + column * 0.0125, cy = -1.0 + (double)(line % 100) * 0.02, x = 0, y = 0;
      u32 steps = 0;
      for (; steps < 200 && x * x + y * y < 4.0; steps++) {
        double t = x * x - y * y + cx;
        y = 2.0 * x * y + cy;
        x = t;
      }
      sum = sum * 3 + steps;
    }
  }
  return sum;
}
