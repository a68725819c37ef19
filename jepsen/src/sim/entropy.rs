//! Where a simulated process gets its random numbers: from the seed.
//!
//! Hash maps, the runtime's `select!`, election timeouts and ids draw on the operating system's `getrandom`, each by its own
//! library. std and the crates look that symbol up so that a program may put its own in its place, and this does: on a thread
//! that [`seed`] was called on it returns numbers that follow from the seed, elsewhere what `/dev/urandom` has.
//!
//! Some of what was drawn is kept for the life of a process (and counted over all threads), so a run can only be repeated
//! exactly in a process of its own.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::io::Read;

use super::dice::Dice;

thread_local! {
    static DICE: Cell<Option<Dice>> = const { Cell::new(None) };
}

/// What this thread draws from now on follows from `seed`.
pub fn seed(seed: u64) {
    DICE.set(Some(Dice::new(seed, 0xe47)));
}

fn fill(buffer: &mut [u8]) -> bool {
    let drawn = DICE.try_with(|cell| {
        let mut dice = cell.take()?;
        for piece in buffer.chunks_mut(8) {
            piece.copy_from_slice(&dice.next().to_le_bytes()[..piece.len()]);
        }
        cell.set(Some(dice));
        Some(())
    });
    match drawn {
        Ok(Some(())) => true,
        _ => std::fs::File::open("/dev/urandom").is_ok_and(|mut f| f.read_exact(buffer).is_ok()),
    }
}

/// The C library's function of that name.
///
/// # Safety
/// As in C: `buffer` has room for `len` bytes, or `len` is 0.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    if buffer.is_null() || len == 0 {
        return 0;
    }
    // SAFETY: the caller says that there is room for `len` bytes; zeros first, because it may not be initialised.
    let buffer = unsafe {
        std::ptr::write_bytes(buffer, 0, len);
        std::slice::from_raw_parts_mut(buffer, len)
    };
    match fill(buffer) {
        true => len as isize,
        false => -1,
    }
}
