// Guest memory: single pages handed out in shuffled order, and runs of adjacent pages.
#pragma once
#include "base.h"

/// Takes the memory above the image; `seed` decides the order of the single pages.
void pages_open(u64 seed);
/// A zeroed page. Consecutive calls give pages that are not neighbours.
u64 page_take(void);
void page_give(u64 page);
/// Single pages that can be taken.
u32 pages_left(void);
/// `count` adjacent zeroed pages; never given back.
u64 pages_take_together(u64 count);
