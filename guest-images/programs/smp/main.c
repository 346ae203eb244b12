// Every hart of the machine: started by SBI HSM, shares memory with atomics, takes an IPI and an MSI, and stops.
#include "clock.h"
#include "harts.h"
#include "imsic.h"
#include "machine.h"
#include "program.h"
#include "sbi.h"
#include "trap.h"

#define HARTS_MAX 16u
#define ADDITIONS 20000u
#define WAIT_MS 5000u

static u32 message;  // the identity of the MSI
static volatile u32 started, added, softwares, messages, stopping;
static u64 by_amo, by_lr_sc, lock_owner, by_lock;

static void add_all(void) {
  for (u32 i = 0; i < ADDITIONS; i++) {
    __atomic_fetch_add(&by_amo, 1, __ATOMIC_RELAXED);
    u64 seen = __atomic_load_n(&by_lr_sc, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&by_lr_sc, &seen, seen + 1, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    // Two plain accesses under a lock, which shows acquire and release.
    while (__atomic_exchange_n(&lock_owner, 1, __ATOMIC_ACQUIRE) != 0);
    by_lock = by_lock + 1;
    __atomic_store_n(&lock_owner, 0, __ATOMIC_RELEASE);
  }
}

static void on_software(void) {
  csr_clear(CSR_SIP, 1ul << INTERRUPT_SOFTWARE);
  __atomic_fetch_add(&softwares, 1, __ATOMIC_RELAXED);
}

static void on_message(void *context) {
  (void)context;
  __atomic_fetch_add(&messages, 1, __ATOMIC_RELAXED);
}

static void other_hart(u64 argument) {
  trap_on(INTERRUPT_SOFTWARE, on_software);
  imsic_open_here(message);
  __atomic_fetch_add(&started, (u32)argument, __ATOMIC_RELEASE);
  add_all();
  __atomic_fetch_add(&added, 1, __ATOMIC_RELEASE);
  // No timer here: only the IPI and the MSI wake this hart. Interrupts are off between the question and wfi, or the
  // last IPI could come in between and wfi sleep for ever.
  while (!stopping) {
    wait_for_interrupt();
    interrupts_on();
    interrupts_off();
  }
}

static bool all_arrived(void *context) {
  volatile u32 *counter = ((volatile u32 **)context)[0];
  return *counter >= *((volatile u32 **)context)[1];
}

static bool reaches(volatile u32 *counter, u32 expected) {
  volatile u32 *pair[2] = {counter, &expected};
  return wait_until(all_arrived, pair, WAIT_MS);
}

void program(void) {
  machine_open();
  u64 harts[HARTS_MAX], mask = 0;
  u32 others = 0;
  for (u32 i = 0; i < HARTS_MAX && hart_at(i, &harts[others]); i++)
    if (harts[others] != hart_id) mask |= 1ul << harts[others++];
  message = imsic_take(on_message, NULL);
  trap_on(INTERRUPT_SOFTWARE, on_software);

  step("start %u other harts by SBI HSM", others);
  for (u32 i = 0; i < others; i++) {
    i64 error = hart_start(harts[i], other_hart, 1);
    REQUIRE(error == 0, "SBI hart_start of hart %lu returns %ld", harts[i], error);
  }
  REQUIRE(reaches(&started, others), "only %u of %u harts have started", started, others);
  REQUIRE(others == 0 || hart_start(harts[0], other_hart, 1) != 0, "a running hart was started again");

  step("add to shared counters on every hart, %u in all", others + 1);
  add_all();
  REQUIRE(reaches(&added, others), "only %u of %u harts have added", added, others);
  u64 expected = (u64)(others + 1) * ADDITIONS;
  REQUIRE(by_amo == expected, "amoadd lost %ld additions", (i64)(expected - by_amo));
  REQUIRE(by_lr_sc == expected, "lr and sc lost %ld additions", (i64)(expected - by_lr_sc));
  REQUIRE(by_lock == expected, "the lock lost %ld additions", (i64)(expected - by_lock));

  step("an IPI to every hart, this one among them");
  REQUIRE(sbi_call(SBI_IPI, 0, mask | 1ul << hart_id, 0, 0).error == 0, "SBI send_ipi fails");
  REQUIRE(reaches(&softwares, others + 1), "only %u of %u harts took the IPI", softwares, others + 1);

  step("an MSI into every other hart's interrupt file");
  for (u32 i = 0; i < others; i++) {
    u64 file = imsic_address_of(harts[i]);
    REQUIRE(file != 0 && file != imsic_address(), "hart %lu has no interrupt file of its own", harts[i]);
    mmio_write32(file, message);
  }
  REQUIRE(reaches(&messages, others), "only %u of %u harts took the MSI", messages, others);

  step("remote fences, then every other hart stops");
  REQUIRE(sbi_call(SBI_RFENCE, 0, mask, 0, 0).error == 0, "SBI remote_fence_i fails");
  REQUIRE(sbi_call(SBI_RFENCE, 1, mask, 0, 0).error == 0, "SBI remote_sfence_vma fails");
  stopping = 1;
  if (others > 0) sbi_call(SBI_IPI, 0, mask, 0, 0);
  for (u32 i = 0; i < others; i++) {
    u64 deadline = clock_now() + clock_rate();
    while (hart_state(harts[i]) != HART_STOPPED)
      REQUIRE(clock_now() < deadline, "hart %lu does not stop: state %ld", harts[i], hart_state(harts[i]));
  }
  print("harts: count=%u additions=%lu ipis=%u msis=%u\n", others + 1, by_amo, softwares, messages);
}
