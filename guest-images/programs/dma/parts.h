// The parts of the program, in the order in which they run.
#pragma once
#include "nic.h"
#include "nvme.h"

/// Reads the data area with several commands in flight and checks its CRC; writes the write-back area and reads it back.
void disk_part(struct nvme *nvme);
/// Sends frames of many lengths both ways and checks every byte.
void frames_part(struct nic *a, struct nic *b);
/// Takes a page away from the NVMe controller, and points the NICs at a page that only the NVMe controller has.
/// The NICs may be NULL.
void faults_part(struct nvme *nvme, struct nic *a, struct nic *b);
