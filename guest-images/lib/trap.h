// Traps in S-mode: exceptions, and the three interrupts of a hart.
#pragma once
#include "base.h"

struct trap_frame {
  u64 x[32];
  u64 sepc;
};

/// Called for INTERRUPT_SOFTWARE, INTERRUPT_TIMER or INTERRUPT_EXTERNAL; enables that interrupt in sie.
void trap_on(u32 interrupt, void (*handler)(void));
static inline void interrupts_on(void) { csr_set(CSR_SSTATUS, SSTATUS_SIE); }
static inline void interrupts_off(void) { csr_clear(CSR_SSTATUS, SSTATUS_SIE); }

/// Until trap_forgive_end(), an exception skips the instruction instead of ending the program.
void trap_forgive(void);
/// The number of exceptions forgiven since trap_forgive().
u64 trap_forgive_end(void);
