// Text out: the ns16550a of the device tree, or the SBI debug console when there is none.
#pragma once
#include "base.h"

void console_open(void);
/// Knows %c %s %d %u %x %X %%, the modifier l, a width, and a leading 0 or -.
void print(const char *format, ...) __attribute__((format(printf, 1, 2)));
void print_list(const char *format, __builtin_va_list arguments);
/// Announces what is about to happen: a line "step: …", which the VMM narrates.
void step(const char *format, ...) __attribute__((format(printf, 1, 2)));
