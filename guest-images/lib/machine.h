// Everything a program that uses devices needs first: pages, clock, interrupt file, interrupts on.
#pragma once
#include "base.h"

void machine_open(void);
