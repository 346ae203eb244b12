#include "machine.h"
#include "clock.h"
#include "imsic.h"
#include "pages.h"
#include "program.h"
#include "trap.h"

void machine_open(void) {
  pages_open(argument("seed", 0x2545f4914f6cdd1d));
  clock_open();
  REQUIRE(imsic_open(), "the device tree has no S-level IMSIC for hart %lu", hart_id);
  interrupts_on();
}
