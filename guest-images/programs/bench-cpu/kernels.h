// What `bench-cpu` measures: each does `scale` thousandths of its usual work and returns a checksum.
#pragma once
#include "base.h"

u64 bench_int(u64 scale);
u64 bench_state(u64 scale);
u64 bench_call(u64 scale);
u64 bench_sieve(u64 scale);
u64 bench_copy(u64 scale);
u64 bench_chase(u64 scale);
u64 bench_float(u64 scale);
u64 bench_trap(u64 scale);
u64 bench_tlb(u64 scale);
u64 bench_cold(u64 scale);
