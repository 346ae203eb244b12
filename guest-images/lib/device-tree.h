// Reading the flattened device tree (Devicetree Specification v0.4, chapter 5) in place.
#pragma once
#include "base.h"

typedef u32 dt_node;  // offset of the node's FDT_BEGIN_NODE in the structure block
#define DT_NONE 0xffffffffu

/// Takes the tree at `address`; false when there is none.
bool dt_open(u64 address);
u64 dt_address(void);
u64 dt_bytes(void);

/// The node after `node` in tree order; `depth` (may be NULL) follows the nesting.
dt_node dt_next(dt_node node, int *depth);
dt_node dt_root(void);
dt_node dt_parent(dt_node node);
const char *dt_name(dt_node node);

/// The first node after `after` (DT_NONE: from the start) one of whose compatible strings is `compatible`.
dt_node dt_compatible(dt_node after, const char *compatible);
dt_node dt_at_path(const char *path);

/// The raw property (big-endian), or NULL.
const u8 *dt_property(dt_node node, const char *name, u32 *bytes);
u32 dt_cell(const u8 *property, u32 index);
u32 dt_u32(dt_node node, const char *name, u32 otherwise);
/// The `index`-th address and size of `reg`, by the parent's cell counts.
bool dt_reg(dt_node node, u32 index, u64 *base, u64 *bytes);

/// Whether the hart's ISA string or list names `extension` (lower case, for example "sstc").
bool dt_hart_has(u64 hart, const char *extension);
/// The node of the hart's own interrupt controller (riscv,cpu-intc).
dt_node dt_hart_controller(u64 hart);
