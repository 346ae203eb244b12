// Time, the supervisor timer, and waiting for something with a deadline.
#pragma once
#include "base.h"

/// Finds the timebase and whether the hart has Sstc, and lets timer interrupts come.
void clock_open(void);
/// Ticks of the time CSR.
static inline u64 clock_now(void) { return csr_read(CSR_TIME); }
/// Ticks per second.
u64 clock_rate(void);
static inline u64 instructions_retired(void) { return csr_read(CSR_INSTRET); }

bool clock_has_sstc(void);
/// The timer interrupt comes at `ticks` (once); CLOCK_NEVER stops it.
#define CLOCK_NEVER (~0ul)
void timer_arm(u64 ticks);
void timer_arm_by_sbi(u64 ticks);
/// How many timer interrupts came.
u64 timer_count(void);

/// Sleeps (wfi) until `done(context)` is true, at most `milliseconds`; returns done's last answer.
bool wait_until(bool (*done)(void *context), void *context, u64 milliseconds);
void delay_microseconds(u64 microseconds);
