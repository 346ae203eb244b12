// Cards come and go while the program runs: each is brought up and used through the IOMMU, and let go when it is asked for.
#include "cards.h"
#include "clock.h"
#include "imsic.h"
#include "iommu.h"
#include "machine.h"
#include "program.h"

struct place {
  struct slot *slot;
  const struct card *card;  // NULL: empty
};

static struct place places[SLOTS_MAX];
static u32 arrived, left, torn_out;

static void arrive(struct place *p) {
  struct slot *s = p->slot;
  step("a card in slot %u: power, link, BARs", s->number);
  const char *wrong = slot_bring_up(s);
  REQUIRE(wrong == NULL, "slot %u: %s", s->number, wrong);
  p->card = card_of(&s->card);
  REQUIRE(p->card != NULL, "slot %u holds an unknown card %04x:%04x", s->number, s->card.vendor, s->card.device);
  arrived++;
  p->card->open(s);
  print("plugged: slot=%u card=%s did=0x%x\n", s->number, p->card->name, s->card.rid);
}

static void leave(struct place *p, bool is_there) {
  struct slot *s = p->slot;
  if (is_there) {
    step("slot %u is asked for: the %s stops", s->number, p->card->name);
    p->card->close(s);
  } else {
    torn_out++;
  }
  card_forget(s);
  print("%s: slot=%u card=%s\n", is_there ? "released" : "torn out", s->number, p->card->name);
  p->card = NULL;
  left++;
  slot_let_go(s);
}

static void look(struct place *p) {
  struct slot *s = p->slot;
  u32 events = slot_take(s);
  bool is_there = slot_is_occupied(s);
  // A card that was exchanged for another between two looks has left and arrived.
  if (p->card != NULL && (events & SLOT_PRESENCE_CHANGED)) leave(p, false);
  if (p->card == NULL && is_there && (events & SLOT_PRESENCE_CHANGED)) arrive(p);
  else if (p->card != NULL && (events & SLOT_BUTTON)) leave(p, true);
}

void program(void) {
  machine_open();
  pci_open();
  print("iommu: %u\n", iommu_open());
  u32 slots = slots_open();
  REQUIRE(slots > 0, "the machine has no hot-plug slot");
  for (u32 i = 0; i < slots; i++) places[i].slot = slot_at(i);
  u64 wanted = argument("departures", 1);
  bool is_busy = argument("busy", 0) != 0;
  print("slots: %u\n", slots);
  step("wait for %lu cards to come and go", wanted);
  while (left < wanted) {
    bool has_worked = false;
    for (u32 i = 0; i < slots; i++)
      if (is_busy && places[i].card != NULL && places[i].card->work != NULL)
        has_worked |= places[i].card->work(places[i].slot);
    if (!slots_wait(has_worked ? 0 : 1000)) continue;
    for (u32 i = 0; i < slots; i++) look(&places[i]);
  }
  struct iommu_fault f;
  u32 faults = 0;
  while (iommu_present() && iommu_take_fault(&f)) faults++;
  u32 interrupts = 0;
  for (u32 i = 0; i < slots; i++) interrupts += places[i].slot->interrupts;
  print("hotplug: arrived=%u left=%u torn_out=%u interrupts=%u faults=%u\n", arrived, left, torn_out, interrupts, faults);
}
