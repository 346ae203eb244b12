// What a hart is good and bad at, one kernel at a time. Boot arguments: only=NAME; scale=N (thousandths of the usual
// work; default 1000).
#include "clock.h"
#include "device-tree.h"
#include "kernels.h"
#include "program.h"

static const struct {
  const char *name;
  u64 (*run)(u64 scale);
} kernels[] = {
  {"int", bench_int},     {"state", bench_state}, {"call", bench_call},   {"sieve", bench_sieve}, {"copy", bench_copy},
  {"chase", bench_chase}, {"float", bench_float}, {"trap", bench_trap},   {"tlb", bench_tlb},     {"cold", bench_cold},
};

static bool is_wanted(const char *name) {
  const char *text = (const char *)dt_property(dt_at_path("/chosen"), "bootargs", NULL);
  for (; text != NULL && *text != 0; text++) {
    if (strncmp(text, "only=", 5) != 0) continue;
    u64 length = strlen(name);
    return strncmp(text + 5, name, length) == 0 && (text[5 + length] == ' ' || text[5 + length] == 0);
  }
  return true;
}

void program(void) {
  u64 scale = argument("scale", 1000);
  u32 done = 0;
  for (u32 i = 0; i < LENGTH(kernels); i++) {
    if (!is_wanted(kernels[i].name)) continue;
    done++;
    print("bench: event=begin name=%s\n", kernels[i].name);
    u64 instructions = instructions_retired();
    u64 sum = kernels[i].run(scale);
    instructions = instructions_retired() - instructions;
    print("bench: event=end name=%s instructions=%lu checksum=0x%016lx\n", kernels[i].name, instructions, sum);
  }
  REQUIRE(done > 0, "only= names no kernel");
}
