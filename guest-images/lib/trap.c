#include "trap.h"
#include "program.h"

#define INTERRUPT (1ul << 63)
// The code of `failed` for a trap that nobody expected.
#define FAIL_TRAP 2

static void (*handlers[16])(void);
static bool forgiving;
static u64 forgiven;

void trap_on(u32 interrupt, void (*handler)(void)) {
  handlers[interrupt] = handler;
  csr_set(CSR_SIE, 1ul << interrupt);
}

void trap_forgive(void) {
  forgiven = 0;
  forgiving = true;
}

u64 trap_forgive_end(void) {
  forgiving = false;
  return forgiven;
}

/// Called by trap_entry.
void trap_handle(u64 scause, u64 stval, struct trap_frame *frame) {
  if (scause & INTERRUPT) {
    u64 number = scause & ~INTERRUPT;
    if (number < LENGTH(handlers) && handlers[number] != NULL) {
      handlers[number]();
      return;
    }
    fail(FAIL_TRAP, "interrupt %lu has no handler", number);
  }
  if (forgiving) {
    forgiven++;
    // An instruction whose two lowest bits are not 11 is two bytes long.
    frame->sepc += (*(volatile u16 *)frame->sepc & 3) == 3 ? 4 : 2;
    return;
  }
  forgiving = false;
  fail(FAIL_TRAP, "exception scause=%lu sepc=0x%lx stval=0x%lx ra=0x%lx sp=0x%lx", scause, frame->sepc, stval,
       frame->x[1], frame->x[2]);
}
