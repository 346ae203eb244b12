// An integer mix: shifts, multiplications, table loads and stores, and branches that are hard to foresee.
// Boot argument: millions=N (of instructions, about; default 200).
#include "clock.h"
#include "program.h"

#define TABLE 512u
// Instructions that one round takes, so that `millions` is about right.
#define INSTRUCTIONS_A_ROUND 18u

static u64 table[TABLE];

static u64 mix(u64 rounds) {
  u64 x = 0x2545f4914f6cdd1d, sum = 0;
  for (u64 i = 0; i < rounds; i++) {
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

void program(void) {
  u64 millions = argument("millions", 200);
  print("bench: event=begin name=int\n");
  u64 instructions = instructions_retired(), ticks = csr_read(CSR_TIME);
  u64 sum = mix(millions * 1000000 / INSTRUCTIONS_A_ROUND);
  instructions = instructions_retired() - instructions;
  ticks = csr_read(CSR_TIME) - ticks;
  print("bench: event=end name=int instructions=%lu ticks=%lu checksum=0x%016lx\n", instructions, ticks, sum);
}
