// The three interrupts of a hart: timer (stimecmp and SBI), software (SBI IPI to itself), and MSIs by the IMSIC.
#include "clock.h"
#include "imsic.h"
#include "machine.h"
#include "program.h"
#include "sbi.h"
#include "trap.h"

static volatile u32 softwares, messages[3];
static volatile u32 order[8], arrivals;

static bool timer_came(void *context) { return timer_count() > (u64)context; }

static void on_software(void) {
  csr_clear(CSR_SIP, 1ul << INTERRUPT_SOFTWARE);
  softwares++;
}

static bool software_came(void *context) { return softwares > (u64)context; }

static void on_message(void *context) {
  u32 which = (u32)(u64)context;
  messages[which]++;
  if (arrivals < LENGTH(order)) order[arrivals++] = which;
}

static bool messages_came(void *context) { return arrivals >= (u64)context; }

static void check_timer(const char *how, void (*arm)(u64 ticks)) {
  u64 count = timer_count(), start = clock_now(), due = start + clock_rate() / 1000;
  arm(due);
  interrupts_off();
  // wfi goes on when an interrupt is pending, though none is taken while sstatus.SIE is clear.
  while ((csr_read(CSR_SIP) & 1ul << INTERRUPT_TIMER) == 0) wait_for_interrupt();
  u64 now = clock_now();
  REQUIRE(timer_count() == count, "a timer interrupt was taken with sstatus.SIE clear");
  REQUIRE(now >= due, "%s: the timer is %lu ticks early", how, due - now);
  interrupts_on();
  REQUIRE(wait_until(timer_came, (void *)count, 100), "%s: the timer interrupt is pending but not taken", how);
  print("timer by %s: asked for 10000 ticks, came after %lu\n", how, now - start);
}

void program(void) {
  machine_open();
  if (clock_has_sstc()) {
    step("timer interrupt by stimecmp, in 1 ms");
    check_timer("stimecmp", timer_arm);
  } else {
    print("no Sstc: stimecmp is left out\n");
  }
  step("timer interrupt by SBI set_timer, in 1 ms");
  check_timer("SBI", timer_arm_by_sbi);

  step("IPI to hart %lu itself by SBI", hart_id);
  trap_on(INTERRUPT_SOFTWARE, on_software);
  struct sbi_result result = sbi_call(SBI_IPI, 0, 1, hart_id, 0);
  REQUIRE(result.error == 0, "SBI send_ipi returns %ld", result.error);
  REQUIRE(wait_until(software_came, (void *)0, 100), "the software interrupt does not come");

  u32 identity[3];
  for (u64 i = 0; i < 3; i++) identity[i] = imsic_take(on_message, (void *)i);
  step("write MSI %u into the interrupt file at 0x%lx", identity[1], imsic_address());
  mmio_write32(imsic_address(), identity[1]);
  REQUIRE(wait_until(messages_came, (void *)1, 100), "the MSI does not come");

  step("three MSIs while interrupts are off, one of them twice");
  interrupts_off();
  for (u32 i = 0; i < 3; i++) mmio_write32(imsic_address(), identity[2 - i]);
  mmio_write32(imsic_address(), identity[2]);
  fence();
  REQUIRE(arrivals == 1, "an MSI was taken with sstatus.SIE clear");
  interrupts_on();
  REQUIRE(wait_until(messages_came, (void *)4, 100), "only %u of 3 MSIs came", arrivals - 1);
  // The lowest identity has the highest priority (AIA 3.1), and a pending bit holds one message only.
  REQUIRE(order[1] == 0 && order[2] == 1 && order[3] == 2, "the MSIs came in the order %u %u %u", order[1], order[2],
          order[3]);
  REQUIRE(arrivals == 4 && messages[2] == 1, "MSI %u came %u times", identity[2], messages[2]);

  step("write identity 0 and an identity that nobody enabled: nothing comes");
  mmio_write32(imsic_address(), 0);
  mmio_write32(imsic_address(), 200);
  fence();
  delay_microseconds(100);
  REQUIRE(arrivals == 4 && imsic_count() == 4, "%lu MSIs were claimed, not 4", imsic_count());
  print("interrupts: timer=%lu software=%u messages=%lu\n", timer_count(), softwares, imsic_count());
}
