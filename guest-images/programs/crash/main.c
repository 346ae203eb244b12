// Takes a trap that nothing handles: a load from an address with no memory, and stvec pointing nowhere either.
#include "program.h"

#define NOWHERE 0x7fff0000dead0000ul

void program(void) {
  step("load from 0x%lx with stvec = 0", NOWHERE);
  csr_write(CSR_STVEC, 0);
  u64 value = *(volatile u64 *)NOWHERE;
  fail(1, "the load from 0x%lx gave 0x%lx", NOWHERE, value);
}
