// Never ends: a tight loop with all interrupts off.
#include "program.h"

void program(void) {
  step("loop for ever with interrupts off");
  csr_write(CSR_SIE, 0);
  csr_clear(CSR_SSTATUS, SSTATUS_SIE);
  for (;;) __asm__ volatile("");
}
