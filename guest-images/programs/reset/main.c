// Asks for a reset.
#include "program.h"

void program(void) {
  step("ask for a reset");
  reset_machine();
}
