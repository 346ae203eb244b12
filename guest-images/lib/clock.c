#include "clock.h"
#include "device-tree.h"
#include "program.h"
#include "sbi.h"
#include "trap.h"

static u64 rate;
static bool sstc;
static volatile u64 count;

void timer_arm_by_sbi(u64 ticks) { sbi_call(SBI_TIME, 0, ticks, 0, 0); }

void timer_arm(u64 ticks) {
  if (sstc)
    csr_write(CSR_STIMECMP, ticks);
  else
    timer_arm_by_sbi(ticks);
}

static void on_timer(void) {
  count++;
  // The interrupt stays pending until the comparison lies in the future again.
  timer_arm(CLOCK_NEVER);
}

void clock_open(void) {
  rate = dt_u32(dt_at_path("/cpus"), "timebase-frequency", 0);
  REQUIRE(rate != 0, "the device tree has no timebase-frequency");
  sstc = dt_hart_has(hart_id, "sstc");
  timer_arm(CLOCK_NEVER);
  trap_on(INTERRUPT_TIMER, on_timer);
}

u64 clock_rate(void) { return rate; }
bool clock_has_sstc(void) { return sstc; }
u64 timer_count(void) { return count; }

bool wait_until(bool (*done)(void *context), void *context, u64 milliseconds) {
  u64 deadline = clock_now() + milliseconds * (rate / 1000);
  for (;;) {
    // Interrupts are off between the question and wfi, so that no answer slips in unnoticed; wfi wakes all the same.
    interrupts_off();
    bool answer = done(context);
    u64 now = clock_now();
    if (answer || now >= deadline) {
      interrupts_on();
      return answer;
    }
    timer_arm(MIN(deadline, now + rate / 100));
    wait_for_interrupt();
    interrupts_on();
  }
}

void delay_microseconds(u64 microseconds) {
  u64 end = clock_now() + microseconds * rate / 1000000;
  while (clock_now() < end);
}
