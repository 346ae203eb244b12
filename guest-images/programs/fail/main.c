// Fails on purpose, with a code of its own.
#include "program.h"

void program(void) { fail(3, "on purpose, with code 3"); }
