//! Requests under way by opaque: which one an answer belongs to, and since when it is waited for.

/// Opaques begin here: all of them have ten digits.
pub const FIRST_OPAQUE: i32 = 1_000_000_000;
/// Bits of the opaque that say which slot; the others tell a slot's requests apart.
const SLOT_BITS: u32 = 16;
const GENERATIONS: u32 = 1 << 14;

#[derive(Clone, Copy, Default)]
struct Slot {
    generation: u32,
    /// When the request began, ns.
    began: Option<u64>,
}

/// The requests of one connection.
#[derive(Default)]
pub struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

impl Slots {
    /// The opaque of a request that begins; None when as many are under way as there are numbers.
    pub fn start(&mut self, began: u64) -> Option<i32> {
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None if self.slots.len() < 1 << SLOT_BITS => {
                self.slots.push(Slot::default());
                self.slots.len() as u32 - 1
            }
            None => return None,
        };
        self.take(slot, began)
    }

    fn take(&mut self, number: u32, began: u64) -> Option<i32> {
        let slot = &mut self.slots[number as usize];
        slot.began = Some(began);
        slot.generation = (slot.generation + 1) % GENERATIONS;
        Some(FIRST_OPAQUE + (slot.generation << SLOT_BITS | number) as i32)
    }

    /// Which slot this answers, and when that began; None when nobody waits for it.
    pub fn finish(&mut self, opaque: i32) -> Option<u64> {
        let id = u32::try_from(opaque.checked_sub(FIRST_OPAQUE)?).ok()?;
        let number = id & ((1 << SLOT_BITS) - 1);
        let slot = self.slots.get_mut(number as usize)?;
        if slot.generation != id >> SLOT_BITS {
            return None;
        }
        let began = slot.began.take()?;
        self.free.push(number);
        Some(began)
    }

    /// Gives up what began before `before`; how many.
    pub fn expire(&mut self, before: u64) -> u32 {
        let mut count = 0;
        for (number, slot) in (0..).zip(&mut self.slots) {
            if slot.began.is_some_and(|began| began < before) {
                slot.began = None;
                self.free.push(number);
                count += 1;
            }
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_taken_once() {
        let mut slots = Slots::default();
        let (a, b) = (slots.start(5).unwrap(), slots.start(7).unwrap());
        assert_eq!(slots.finish(b), Some(7));
        assert_eq!(slots.finish(b), None);
        let c = slots.start(9).unwrap();
        assert_ne!(c, b, "its slot, not its opaque");
        assert_eq!(slots.finish(b), None);
        assert_eq!(slots.expire(9), 1);
        assert_eq!(slots.finish(a), None);
        assert_eq!(slots.finish(c), Some(9));
        assert_eq!(slots.finish(-1), None);
    }

    #[test]
    fn all_opaques_have_ten_digits() {
        let mut slots = Slots::default();
        for _ in 0..GENERATIONS * 2 {
            let opaque = slots.start(0).unwrap();
            assert!(opaque >= FIRST_OPAQUE);
            slots.finish(opaque);
        }
        let all: Vec<_> = std::iter::from_fn(|| slots.start(1)).collect();
        assert_eq!(all.len(), 1 << SLOT_BITS);
        assert!(all.iter().all(|o| *o >= FIRST_OPAQUE));
    }
}
